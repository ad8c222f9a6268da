"""`charlstm fill`: a text with its gaps filled by a model that reads from both sides. Loads no torch."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from charlstm import environment
from charlstm.cli.terminal import RunOption, one_sentence, read_input, say, write
from charlstm.errors import SettingsError


@one_sentence
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
        say(f"seed {seed}")
    fill(read_input(file), run, mask=mask, temperature=temperature, seed=seed)


def fill(raw: bytes, run_folder: Path | None, *, mask: str, temperature: float, seed: int) -> None:
    """Fill the gaps of a text from a run's best checkpoint and write it to stdout; the rest stays as it is."""
    environment.limit_numpy_threads()
    import numpy as np

    from charlstm.inference import SamplingParameters, build_directions, fill_text
    from charlstm.runs import checkpoints
    from charlstm.runs import folder as runs

    run = runs.open_run(runs.find_run(run_folder or environment.run_folder()))
    checkpoint = checkpoints.read_checkpoint(run, "best", model_only=True)
    filled = fill_text(
        *build_directions(checkpoint.weights, run.settings.model, where=run.folder),
        run.vocab,
        raw,
        mask=mask.encode(),
        parameters=SamplingParameters(temperature=temperature),
        rng=np.random.default_rng(seed),
    )
    write(filled)
