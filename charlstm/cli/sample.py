"""`charlstm sample`: text from a trained model. Loads no torch."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from charlstm import environment
from charlstm.cli.interactive import answer_prompts
from charlstm.cli.runs import take_run
from charlstm.cli.sample_documents import DocumentOptions, write_documents
from charlstm.cli.terminal import (
    RawOption,
    RunOption,
    ShardOption,
    TrustOption,
    base64_of,
    parse_shard,
    print_diagnostic,
    read_input,
    report_errors,
    text_writer,
    write_json,
)
from charlstm.errors import SettingsError

if TYPE_CHECKING:
    from charlstm.inference import Sample
    from charlstm.settings import SamplingSettings, Settings
    from charlstm.text import Vocab

    Steps: TypeAlias = Iterator[list[Sample]]
    Write: TypeAlias = Callable[[bytes], None]

MOST_HELD_CHARS = 10_000  # before they are written, whatever the clock says
BETWEEN_WRITES_SECONDS = 0.005  # of one text: to write it character by character costs a sixth of a small model's speed


@report_errors
def sample_command(
    run: RunOption = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temp", "-t", metavar="T", help="Divides the logits; 0 takes the likeliest character."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", "-k", metavar="K", help="Draw among the K likeliest characters.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option("--top-p", metavar="P", help="Draw among the likeliest that together hold P.")
    ] = None,
    length: Annotated[
        int | None,
        typer.Option("--length", "-n", metavar="N", help="Characters to generate, of a document at most; 0: no limit."),
    ] = None,
    prompt: Annotated[str, typer.Option("--prompt", "-p", metavar="TEXT", help="Text to continue.")] = "",
    prompt_file: Annotated[
        str | None, typer.Option("--prompt-file", metavar="FILE", help="Continue a file's text, - for stdin.")
    ] = None,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Read nothing before the prompt, not even the line end that texts begin after."),
    ] = False,
    echo: Annotated[bool, typer.Option("--echo/--no-echo", help="Print the prompt before its continuation.")] = True,
    stop: Annotated[str, typer.Option("--stop", metavar="TEXT", help="End before this text.")] = "",
    samples: Annotated[int, typer.Option("--samples", metavar="N", min=1, max=10**9, help="How many texts.")] = 1,
    separator: Annotated[
        str | None, typer.Option("--separator", metavar="TEXT", help="A line to write between two texts.")
    ] = None,
    null: Annotated[bool, typer.Option("-0", "--null", help="End each text with NUL, as for xargs -0.")] = False,
    shard: ShardOption = "1/1",
    lines: Annotated[
        bool,
        typer.Option(
            "--lines", help="One whole line or document each, as --unique to --escape and a model of documents do too."
        ),
    ] = False,
    unique: Annotated[bool, typer.Option("--unique", help="No document twice.")] = False,
    new: Annotated[bool, typer.Option("--new", help="None that stands in the text of the run.")] = False,
    match: Annotated[
        str | None,
        typer.Option(
            "--match",
            metavar="REGEX",
            help="Only what Python's re.fullmatch accepts; at each step the model's probabilities are renormalised.",
        ),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", metavar="TEXT", help="What each document begins with.")] = "",
    suffix: Annotated[
        str | None, typer.Option("--suffix", metavar="TEXT", help="What each document ends with, as it stands.")
    ] = None,
    best: Annotated[
        int | None,
        typer.Option(
            "--best", metavar="N", min=1, help="The N likeliest documents, exactly, each after its probability."
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="NAME,NAME…", help="Rows of a table with these columns, as JSON objects."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--given", metavar="NAME=VALUE", help="The first fields of each row. Repeatable."),
    ] = None,
    escape: Annotated[
        bool, typer.Option("--escape", help="Write line ends in documents as \\n; else those are left out.")
    ] = False,
    trust_sources: TrustOption = False,
    interactive: Annotated[
        bool,
        typer.Option("--interactive", "-i", help="Ask for prompts; each begins a text of its own."),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Same seed, same text; without, a new one each time."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="One object a sample: text, seed, mean_log_prob (nats); base64 of bytes."),
    ] = False,
    raw: RawOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but the text and errors.")] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SETTING=VALUE", help="As in sampling.top_k=null, for no filter. Repeatable."),
    ] = None,
) -> None:
    """Generate text. Temperature, filters and length default to the run's sampling settings."""
    if prompt and prompt_file is not None:
        raise SettingsError("--prompt and --prompt-file are both given: give one of them")
    if as_json + null + (separator is not None) > 1:
        raise SettingsError("--json, -0 and --separator are three ways to tell texts apart: give one of them")
    which = parse_shard(shard)
    if shard != "1/1" and seed is None:
        raise SettingsError("--shard takes every N-th of the samples of one --seed: give the same to all parts")
    if interactive and (prompt or prompt_file is not None or samples > 1 or as_json or shard != "1/1"):
        raise SettingsError(
            "--interactive asks for the prompts of single texts: leave --prompt, --prompt-file, --samples, --json and "
            "--shard out"
        )
    options = {"--temp": ("temperature", temperature), "--top-k": ("top_k", top_k)}
    options |= {"--top-p": ("top_p", top_p), "--length": ("length", length)}
    cores = environment.limit_numpy_threads()
    import secrets  # 5 ms, which --help need not take

    from charlstm.api import sample_stepwise
    from charlstm.inference import encode_known, in_order, take_text

    opened = take_run(run, needs="next", quiet=quiet)
    sampling = _sampling_settings(opened.settings, options, overrides or ())
    documents = DocumentOptions(
        unique=unique,
        new=new,
        match=match,
        prefix=prefix,
        suffix=suffix,
        best=best,
        columns=columns,
        given=given or [],
        escape=escape,
        null=null,
        as_json=as_json,
        trust_sources=trust_sources,
        raw=raw,
        quiet=quiet,
    )
    if lines or opened.vocab.has_boundary or documents.are_given():
        texts = {
            "--prompt": prompt,
            "--prompt-file": prompt_file,
            "--cold": cold,
            "--no-echo": not echo,
            "--stop": stop,
            "--shard": shard != "1/1",
        }
        _refuse(
            {**texts, "--separator": separator, "--interactive": interactive},
            "documents or lines (for --prompt give --prefix)",
        )
        if best is not None:
            draws = {
                "--temp": temperature,
                "--top-k": top_k,
                "--top-p": top_p,
                "--samples": samples > 1,
                "--seed": seed,
            }
            _refuse(draws, "--best, which draws nothing")
        write_documents(opened, sampling, documents, wanted=samples, seed=seed, cores=cores)
        return
    if sampling.length == 0 and (samples > 1 or as_json):
        raise SettingsError("--length 0 never ends, so it goes with one sample and without --json: give a length")
    first_seed = secrets.randbelow(2**32) if seed is None else seed
    stop_ids = encode_known(opened.vocab, _bytes(stop))
    end = b"\0" if null else b"\n"
    write = text_writer(raw=raw)

    def begin(head: bytes, seed: int) -> "Steps":
        if not quiet:
            _report_unknown(head, opened.vocab)
        return sample_stepwise(
            opened,
            sampling,
            prompt=head,
            stop=_bytes(stop),
            samples=samples,
            which=which,
            seed=seed,
            scored=as_json,
            cores=cores,
            cold=cold,
        )

    def answer(head: bytes, number: int) -> None:
        _stream(begin(head, first_seed + number), opened.vocab, stop_ids, head if echo else b"", write, end=end)

    if interactive:
        answer_prompts(answer, quiet=quiet)
        return
    head = read_input(prompt_file) if prompt_file is not None else _bytes(prompt)
    steps = begin(head, first_seed)
    if seed is None and not quiet:
        print_diagnostic(f"seed {first_seed}")
    head = head if echo else b""
    if samples == 1 and shard == "1/1" and not as_json:
        _stream(steps, opened.vocab, stop_ids, head, write, end=end)
        return
    between = None if separator is None else _bytes(separator) + b"\n"
    rule = between is None and not null and not quiet
    numbers = range(samples)[which]
    for one in in_order(steps, numbers):
        text = head + take_text(one, opened.vocab)
        if as_json:
            write_json(_fields(text, one, opened.vocab))
            continue
        if one.number != numbers[0]:
            write(between or b"")
            if rule:
                _draw_rule()
        write(text if text.endswith(end) else text + end)


def _refuse(given: dict[str, Any], what: str) -> None:
    """Raise SettingsError for an option that was given, but does not go with what is asked for."""
    for name, value in given.items():
        if not (value is None or value is False or value == ""):  # 0 is given
            raise SettingsError(f"{name} does not go with {what}: leave it out")


def _stream(steps: "Steps", vocab: "Vocab", stop_ids: list[int], head: bytes, write: "Write", *, end: bytes) -> None:
    """Write one text as it is made, and its end."""
    from charlstm.inference import take_text

    write(head)
    last, due = head, 0.0
    for (one,) in steps:
        if one.finished or perf_counter() >= due or len(one.pending) >= MOST_HELD_CHARS:
            piece = take_text(one, vocab, stop_ids=stop_ids)
            write(piece)
            last, due = piece or last, perf_counter() + BETWEEN_WRITES_SECONDS
    if not last.endswith(end):
        write(end)


def _draw_rule() -> None:
    """Draw a dim line between two texts if both streams are a terminal."""
    if sys.stdout.isatty() and sys.stderr.isatty():
        rule = "─" * shutil.get_terminal_size().columns
        print_diagnostic(f"\033[2m{rule}\033[0m" if environment.terminal_colours() else rule, keep="\033")


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


def _report_unknown(prompt: bytes, vocab: "Vocab") -> None:
    """Print which characters of the prompt are unknown; where the policy refuses them, encoding will raise."""
    from charlstm.text import code_points, name_characters

    unknown = vocab.unknown_characters(prompt, where="the prompt")
    if unknown and vocab.unknown != "error":
        hint = vocab.form_hint(code_points(prompt.decode("utf-8", "replace")))
        done = "left out of" if vocab.unknown == "skip" else "replaced in"
        print_diagnostic(f"{done} the prompt, unknown to the vocabulary: {name_characters(unknown)}{hint}")


def _fields(text: bytes, one: "Sample", vocab: "Vocab") -> dict[str, Any]:
    """A row of --json; text of bytes that is not UTF-8 is not whole in a string."""
    fields = {"text": text.decode("utf-8", "replace"), "seed": one.seed, "mean_log_prob": one.mean_log_prob}
    return fields | base64_of(text, vocab.unit)


def _bytes(argument: str) -> bytes:
    """The bytes of a command-line argument as they were typed, valid UTF-8 or not."""
    return argument.encode("utf-8", "surrogateescape")
