"""`charlstm sample`: text from a trained model. Loads no torch."""

import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from charlstm import environment
from charlstm.cli.config import SetOption
from charlstm.cli.terminal import RunOption, one_sentence, say, write, write_line
from charlstm.errors import RunError, SettingsError, TextError


@one_sentence
def sample_command(
    run: RunOption = None,
    temperature: Annotated[
        float | None, typer.Option("--temp", metavar="T", help="Divides the logits; 0 takes the likeliest character.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", metavar="K", help="Draw among the K likeliest characters.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", metavar="P", help="Draw among the likeliest that together hold P.")
    ] = None,
    length: Annotated[
        int | None, typer.Option("--length", metavar="N", help="Characters to generate; 0: until the pipe closes.")
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="Text to continue.")] = "",
    prompt_file: Annotated[
        Path | None, typer.Option("--prompt-file", metavar="FILE", help="Continue a file's text, - for stdin.")
    ] = None,
    echo: Annotated[bool, typer.Option("--echo/--no-echo", help="Print the prompt before its continuation.")] = True,
    stop: Annotated[str, typer.Option("--stop", metavar="TEXT", help="End before this text.")] = "",
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, help="How many texts.")] = 1,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Same seed, same text; without, a new one each time."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One object a sample: text, seed, mean_log_prob (nats a character).")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Generate text. Temperature, filters and length default to the run's sampling settings."""
    options = {"--temp": ("temperature", temperature), "--top-k": ("top_k", top_k)}
    options |= {"--top-p": ("top_p", top_p), "--length": ("length", length)}
    if prompt and prompt_file is not None:
        raise SettingsError("--prompt and --prompt-file are both given: give one of them")
    text = _read_prompt(prompt_file) if prompt_file is not None else prompt
    sample(
        run,
        options=options,
        overrides=overrides or (),
        prompt=text,
        echo=echo,
        stop=stop,
        samples=samples,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        tell_seed=seed is None,
        as_json=as_json,
    )


def sample(
    run_folder: Path | None,
    *,
    options: dict[str, tuple[str, Any]],
    overrides: Sequence[str],
    prompt: str | bytes,
    echo: bool,
    stop: str,
    samples: int,
    seed: int,
    tell_seed: bool,
    as_json: bool,
) -> None:
    """Sample from a run's best checkpoint and write the texts to stdout, a single one as it is made."""
    environment.limit_numpy_threads()
    from charlstm import runs
    from charlstm.config import override_setting, override_settings
    from charlstm.engine import Engine, check_weights
    from charlstm.sampling import Choice, generate, take_text

    run = runs.open_run(runs.find_run(run_folder or environment.run_folder()))
    settings = override_settings(run.settings, overrides)
    for option, (name, value) in options.items():
        if value is not None:
            settings = override_setting(settings, f"sampling.{name}", value, option=option)
    if run.settings.model.objective == "cloze":
        raise RunError(f"{run.folder} was trained to fill gaps, not to go on with a text: use `charlstm fill`")
    length = settings.sampling.length or None
    if length is None and (samples > 1 or as_json):
        raise SettingsError("--length 0 never ends, so it goes with one sample and without --json: give a length")

    vocab = run.vocab
    unknown = vocab.unknown_characters(prompt, where="the prompt")
    prompt_ids = vocab.encode_text(prompt, where="the prompt")
    if unknown:
        from charlstm.vocab import name_characters

        done = "left out of" if vocab.unknown == "skip" else "replaced in"
        say(f"{done} the prompt, unknown to the vocabulary: {name_characters(unknown)}")
    checkpoint = runs.read_checkpoint(run, "best", model_only=True)
    check_weights(checkpoint.weights, run.settings.model, vocab.size, where=f"checkpoint {checkpoint.name}")
    engine = Engine(checkpoint.weights, run.settings.model)
    choice = Choice(
        temperature=settings.sampling.temperature,
        top_k=settings.sampling.top_k,
        top_p=settings.sampling.top_p,
        never=vocab.unknown_id,
    )
    if tell_seed:
        say(f"seed {seed}")
    head = (prompt if isinstance(prompt, bytes) else prompt.encode()) if echo else b""
    steps = generate(engine, vocab, choice, prompt=prompt_ids, length=length, seed=seed, samples=samples, stop=stop)
    if samples == 1 and not as_json:
        write(head)
        last = head
        for (one,) in steps:
            piece = take_text(one, vocab, stop=stop)
            write(piece)
            last = piece or last
        write(b"" if last.endswith(b"\n") else b"\n")
        return
    for live in steps:
        for one in live:
            if one.finished:
                text = head + take_text(one, vocab, stop=stop)
                if as_json:
                    write_line(_as_json(text, one.seed, one.mean_log_prob))
                else:
                    write(text if text.endswith(b"\n") else text + b"\n")


def _as_json(text: bytes, seed: int, mean_log_prob: float | None) -> str:
    import json

    fields = {"text": text.decode("utf-8", "replace"), "seed": seed, "mean_log_prob": mean_log_prob}
    return json.dumps(fields, ensure_ascii=False)


def _read_prompt(file: Path) -> bytes:
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise TextError(f"could not read the prompt from {file}: {error.strerror}") from None
