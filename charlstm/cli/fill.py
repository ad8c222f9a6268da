"""`charlstm fill`: a text with its gaps filled by a model that reads from both sides. Loads no torch."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from charlstm import environment
from charlstm.cli.terminal import RunOption, print_diagnostic, read_input, report_errors, write
from charlstm.errors import RunError, SettingsError


@report_errors
def fill_command(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="A text with gaps; - or nothing for stdin.")] = "-",
    run: RunOption = None,
    mask: Annotated[str, typer.Option("--mask", metavar="CHAR", help="The character that stands for a gap.")] = "_",
    temperature: Annotated[
        float, typer.Option("--temp", metavar="T", min=0.0, help="Draw at this temperature; 0: the most likely.")
    ] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, help="Same seed, same text; without, a new one each time."),
    ] = None,
) -> None:
    """Fill the gaps of a text. Needs a run trained with model.bidirectional and model.objective cloze."""
    if len(mask) != 1:
        raise SettingsError(f"--mask is {mask!r}, but must be one character")
    if not temperature < float("inf"):
        raise SettingsError(f"--temp is {temperature}, but must be a finite number of at least 0")
    tell_seed = temperature > 0 and seed is None
    seed = secrets.randbelow(2**32) if seed is None else seed
    if tell_seed:
        print_diagnostic(f"seed {seed}")
    fill(read_input(file), run, mask=mask, temperature=temperature, seed=seed)


def fill(raw: bytes, run_folder: Path | None, *, mask: str, temperature: float, seed: int) -> None:
    """Fill the gaps of a text from a run's best checkpoint and write it to stdout; the rest stays as it is."""
    environment.limit_numpy_threads()
    import numpy as np

    from charlstm.inference.engine import directions
    from charlstm.inference.filling import fill_gaps
    from charlstm.inference.sampling import Choice
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs

    run = runs.open_run(run_folder)
    if run.settings.model.objective != "cloze":
        raise RunError(
            f"{run.folder} predicts the next character, which fills no gaps: "
            "train a run with model.bidirectional true and model.objective cloze, or use `charlstm sample`"
        )
    checkpoint = checkpoints.read_checkpoint(run, "best", model_only=True)
    vocab = run.vocab
    pieces = raw.split(mask.encode())
    encoded = [vocab.encode_text(piece, where="the text") for piece in pieces]
    ids = np.concatenate([encoded[0], *(np.append([0], piece) for piece in encoded[1:])]).astype(np.intp)
    gaps = (np.cumsum([len(piece) + 1 for piece in encoded])[:-1] - 1).tolist()
    forwards, backwards = directions(checkpoint.weights, run.settings.model)
    choice = Choice(temperature=temperature, never=vocab.unknown_id)
    filled = fill_gaps(forwards, backwards, ids, gaps, choice=choice, rng=np.random.default_rng(seed))
    chosen = [vocab.to_bytes(filled[[at]]) for at in gaps]
    write(b"".join(part for pair in zip(pieces, [*chosen, b""], strict=True) for part in pair))
