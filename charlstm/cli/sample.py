"""`charlstm sample`: text from a trained model. Loads no torch."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from charlstm import environment
from charlstm.cli.terminal import RunOption, one_sentence, read_input, say, write, write_line
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.inference import Sample
    from charlstm.settings import SamplingSettings, Settings
    from charlstm.text.vocabulary import Ids, Vocab

    Steps: TypeAlias = Iterator[list[Sample]]

BETWEEN_WRITES_SECONDS = 0.005  # of one text: to write it character by character costs a sixth of a small model's speed


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
        str | None, typer.Option("--prompt-file", metavar="FILE", help="Continue a file's text, - for stdin.")
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
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="As in sampling.top_k=null, for no filter. Repeatable."),
    ] = None,
) -> None:
    """Generate text. Temperature, filters and length default to the run's sampling settings."""
    options = {"--temp": ("temperature", temperature), "--top-k": ("top_k", top_k)}
    options |= {"--top-p": ("top_p", top_p), "--length": ("length", length)}
    if prompt and prompt_file is not None:
        raise SettingsError("--prompt and --prompt-file are both given: give one of them")
    sample(
        run,
        options=options,
        overrides=overrides or (),
        prompt=read_input(prompt_file) if prompt_file is not None else _bytes(prompt),
        echo=echo,
        stop=_bytes(stop),
        samples=samples,
        seed=seed,
        as_json=as_json,
    )


def sample(
    run_folder: Path | None,
    *,
    options: dict[str, tuple[str, Any]],
    overrides: Sequence[str],
    prompt: bytes,
    echo: bool,
    stop: bytes,
    samples: int,
    seed: int | None,
    as_json: bool,
) -> None:
    """Sample from a run's best checkpoint and write the texts to stdout, a single one as it is made."""
    cores = environment.limit_numpy_threads()
    from charlstm.inference import (
        SamplingParameters,
        build_stepper,
        encode_stop,
        generate,
        numpy_threads,
        sampling_threads,
    )
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs

    run = runs.open_run(runs.find_run(run_folder or environment.run_folder()))
    sampling = _sampling_settings(run.settings, options, overrides)
    length = sampling.length or None
    if length is None and (samples > 1 or as_json):
        raise SettingsError("--length 0 never ends, so it goes with one sample and without --json: give a length")
    stop_ids = encode_stop(run.vocab, stop)
    prompt_ids = _prompt_ids(prompt, run.vocab)
    checkpoint = checkpoints.read_checkpoint(run, "best", model_only=True)
    stepper = build_stepper(checkpoint.weights, run.settings.model, where=run.folder)
    if seed is None:
        seed = secrets.randbelow(2**32)
        say(f"seed {seed}")
    steps = generate(
        stepper,
        run.vocab,
        SamplingParameters(temperature=sampling.temperature, top_k=sampling.top_k, top_p=sampling.top_p),
        prompt=prompt_ids,
        length=length,
        seed=seed,
        samples=samples,
        stop_ids=stop_ids,
        scored=as_json,
    )
    head = prompt if echo else b""
    threads = sampling_threads(run.settings.model, cores=cores, load=environment.load_average())
    with numpy_threads(threads):
        if samples == 1 and not as_json:
            _stream(steps, run.vocab, stop_ids, head)
        else:
            _write_finished(steps, run.vocab, head, first_seed=seed, as_json=as_json)


def _stream(steps: "Steps", vocab: "Vocab", stop_ids: list[int], head: bytes) -> None:
    """Write one text as it is made, ending in one newline."""
    from charlstm.inference import take_text

    write(head)
    last, due = head, 0.0
    for (one,) in steps:
        if one.finished or perf_counter() >= due:
            piece = take_text(one, vocab, stop_ids=stop_ids)
            write(piece)
            last, due = piece or last, perf_counter() + BETWEEN_WRITES_SECONDS
    if not last.endswith(b"\n"):
        write(b"\n")


def _write_finished(steps: "Steps", vocab: "Vocab", head: bytes, *, first_seed: int, as_json: bool) -> None:
    """Write each text when it and those before it are finished, in the order of their seeds."""
    from charlstm.inference import Sample, take_text

    waiting: dict[int, Sample] = {}
    seed = first_seed
    for live in steps:
        waiting |= {one.seed: one for one in live if one.finished}
        while (one := waiting.pop(seed, None)) is not None:
            text = head + take_text(one, vocab)
            if as_json:
                write_line(_as_json(text, one.seed, one.mean_log_prob))
            else:
                write(text if text.endswith(b"\n") else text + b"\n")
            seed += 1


def _sampling_settings(
    settings: "Settings", options: dict[str, tuple[str, Any]], overrides: Sequence[str]
) -> "SamplingSettings":
    """The run's sampling settings with what this command line says instead."""
    from charlstm.settings import override_setting, override_settings

    for override in overrides:
        if override.partition(".")[0].strip() in ("data", "model", "training"):
            raise SettingsError(f"--set {override} is fixed since the run was trained: only sampling.… can change here")
    changed = override_settings(settings, overrides)
    for option, (name, value) in options.items():
        if value is not None:
            changed = override_setting(changed, f"sampling.{name}", value, option=option)
    return changed.sampling


def _prompt_ids(prompt: bytes, vocab: "Vocab") -> "Ids":
    """The ids of the prompt; says which of its characters were unknown, where the policy lets them pass."""
    from charlstm.text.vocabulary import name_characters

    ids = vocab.encode_text(prompt, where="the prompt")
    if unknown := vocab.unknown_characters(prompt, where="the prompt"):
        done = "left out of" if vocab.unknown == "skip" else "replaced in"
        say(f"{done} the prompt, unknown to the vocabulary: {name_characters(unknown)}")
    return ids


def _as_json(text: bytes, seed: int, mean_log_prob: float | None) -> str:
    import json

    fields = {"text": text.decode("utf-8", "replace"), "seed": seed, "mean_log_prob": mean_log_prob}
    return json.dumps(fields, ensure_ascii=False)


def _bytes(argument: str) -> bytes:
    """The bytes of a command-line argument as they were typed, valid UTF-8 or not."""
    return argument.encode("utf-8", "surrogateescape")
