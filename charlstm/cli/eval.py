"""`charlstm eval`: how well a model predicts a text."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from charlstm import environment
from charlstm.cli.terminal import RunOption, one_sentence, say, write_line
from charlstm.errors import RunError, SettingsError, TextError

if TYPE_CHECKING:
    from charlstm.runs import Run
    from charlstm.vocab import Ids


class Split(StrEnum):
    """The parts of a run's own text."""

    train = "train"
    val = "val"
    test = "test"


class ProtocolName(StrEnum):
    """How the text is read; see `evaluation.evaluate`."""

    stream = "stream"
    windows = "windows"


@one_sentence
def eval_command(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="A file, folder, glob or corpus, - for stdin; else the run's own text."),
    ] = None,
    run: RunOption = None,
    split: Annotated[Split | None, typer.Option("--split", help="Part of the run's own text (default val).")] = None,
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            "--protocol", help="stream (default) carries the state; windows starts anew every 256 characters."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of lines.")] = False,
) -> None:
    """Measure loss, bits per character, perplexity and accuracy."""
    if text is not None and split is not None:
        raise SettingsError("--split names a part of the run's own text: give it or TEXT, not both")
    evaluate_run(text, run, split=str(split or "val") if text is None else None, protocol=protocol, as_json=as_json)


def evaluate_run(
    text: str | None, run_folder: Path | None, *, split: str | None, protocol: ProtocolName | None, as_json: bool
) -> None:
    """Evaluate a run's best checkpoint in float32 on a text or a split of its own; write the figures to stdout."""
    from charlstm import runs
    from charlstm.engine import check_weights
    from charlstm.evaluation import evaluate
    from charlstm.model import build_model
    from charlstm.runtime import keep_freed_memory

    run = runs.open_run(runs.find_run(run_folder or environment.run_folder()))
    cloze = run.settings.model.objective == "cloze"
    if cloze and protocol is not None:
        raise SettingsError(f"--protocol is for next characters, but {run.folder} fills gaps: leave it out")
    checkpoint = runs.read_checkpoint(run, "best", model_only=True)
    check_weights(checkpoint.weights, run.settings.model, run.vocab.size, where=f"checkpoint {checkpoint.name}")
    ids = _text_ids(text, run) if text is not None else _split_ids(run, str(split), checkpoint.progress)

    import torch

    keep_freed_memory()
    model = build_model(run.vocab.size, run.settings.model)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    tally = evaluate(model, ids, protocol="windows" if protocol == ProtocolName.windows else "stream")
    kind = "cloze_" if cloze else ""  # what stands in a gap and what comes next are figures of two different things
    figures = {
        f"{kind}loss": tally.loss,
        f"{kind}bits_per_char": tally.bits_per_char,
        f"{kind}perplexity": tally.perplexity,
        f"{kind}accuracy": tally.accuracy,
        "chars": tally.chars,
        "protocol": "cloze" if cloze else str(protocol or ProtocolName.stream),
        "split": split,
    }
    if as_json:
        import json

        write_line(json.dumps(figures))
        return
    shown = {
        "loss": ".4f",
        "bits_per_char": ".4f",
        "perplexity": ".3f",
        "accuracy": ".2%",
        "chars": ",",
        "protocol": "",
    }
    for name, value in figures.items():
        if (form := shown.get(name.removeprefix(kind))) is not None:
            write_line(f"{name:<20} {value:{form}}")
    write_line(f"{'text':<20} {text if text is not None else f'{split} split of the run'}")


def _text_ids(text: str, run: "Run") -> "Ids":
    """The ids of a text of the user's, in the run's vocabulary."""
    from charlstm.cli.text import standard_input
    from charlstm.corpus import encode_source
    from charlstm.vocab import name_characters

    encoded = encode_source(
        run.vocab,
        text,
        cache_folder=environment.cache_folder(),
        data_folder=environment.data_folder(),
        stdin=standard_input((text,)),
    )
    if encoded.unknown_chars:
        done = "left out" if run.vocab.unknown == "skip" else "replaced"
        say(
            f"{done} {encoded.unknown_chars:,} characters unknown to the vocabulary: {name_characters(encoded.unknown)}"
        )
    return encoded.ids


def _split_ids(run: "Run", split: str, progress: dict[str, object]) -> "Ids":
    """The ids of a part of the text that the run was trained on: from the cache, else from its sources."""
    from charlstm.cli.text import prepare_run_corpus
    from charlstm.corpus import open_corpus, split_ids

    fingerprint = str(progress.get("text_sha256"))
    corpus = open_corpus(fingerprint, environment.cache_folder()) or prepare_run_corpus(run.settings.data)
    if corpus.fingerprint != fingerprint:
        raise RunError(f"the text that {run.folder} was trained on has changed: name a text to evaluate instead")
    ids: Ids = getattr(split_ids(corpus.ids, run.settings.data.split), split)
    if len(ids) < 2:
        shares = ", ".join(f"{share:g}" for share in run.settings.data.split)
        raise TextError(
            f"the run's text has no {split} split (data.split is [{shares}]): choose another, or name a text"
        )
    return ids
