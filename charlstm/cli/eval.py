"""`charlstm eval`: how well a model predicts a text."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from charlstm import environment
from charlstm.cli.terminal import RunOption, one_sentence, write_line
from charlstm.errors import SettingsError


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
    from charlstm.cli.text import split_ids_of_run, text_ids
    from charlstm.evaluation.evaluate import EVALUATED_LANES, evaluate
    from charlstm.machine.runtime import keep_freed_memory
    from charlstm.machine.workers import Workers
    from charlstm.networks.models import build_model
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs

    run = runs.open_run(runs.find_run(run_folder or environment.run_folder()))
    cloze = run.settings.model.objective == "cloze"
    if cloze and protocol is not None:
        raise SettingsError(f"--protocol is for next characters, but {run.folder} fills gaps: leave it out")
    checkpoint = checkpoints.read_checkpoint(run, "best", model_only=True)
    ids = text_ids(text, run) if text is not None else split_ids_of_run(run, str(split), checkpoint.progress)

    import torch

    keep_freed_memory()
    torch.set_flush_denormal(True)
    model = build_model(run.vocab.size, run.settings.model)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in checkpoint.weights.items()})
    tally = evaluate(
        model,
        ids,
        protocol="windows" if protocol == ProtocolName.windows else "stream",
        workers=Workers(torch.get_num_threads(), lanes=EVALUATED_LANES),
    )
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
