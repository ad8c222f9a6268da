"""Runs of a model that was never trained: what is saved in them, and what must be read back.

Letters: `V` vocabulary, `E` embedding, `H` hidden, `L` layers, `B` lanes.
"""

from pathlib import Path

import numpy as np

from charlstm.files import UNFINISHED
from charlstm.runs import Checkpoint, MetricsRow, Progress, Run, TextIdentity, read_checkpoint, save_checkpoint
from charlstm.settings import ModelSettings, Settings, TrainingSettings
from charlstm.text import Vocab
from charlstm.weights import weight_shapes

E, H, L, B = 3, 2, 1, 4
MODEL = ModelSettings(embedding_size=E, hidden_size=H, num_layers=L)
SETTINGS = Settings(model=MODEL, training=TrainingSettings(batch_size=B, max_steps=9))
VOCAB = Vocab(unit="char", symbols=tuple("\nabé→"), unknown="error", newline="keep", has_unknown_symbol=False)
TEXT = TextIdentity("5e" * 32)
FILES = ("model.safetensors", "training.safetensors", "progress.json", "manifest.json")


def row(step: int, **figures: float) -> MetricsRow:
    every = {"chars": 7 * step, "seconds": 0.5, "loss": 1.5 / step, "bits_per_char": 2.0, "learning_rate": 0.1}
    return MetricsRow(step=step, **{**every, "grad_norm": 3.0, "chars_per_second": 100, **figures})  # type: ignore[arg-type]


def contents(step: int, take: int = 0) -> Checkpoint:
    """What a trainer would have after a step: other numbers for each, and for each time that it is taken."""
    rng = np.random.default_rng((step, take))
    weights = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in weight_shapes(MODEL, VOCAB.size).items()
    }
    training = {f"exp_avg.{name}": rng.normal(size=array.shape).astype(np.float32) for name, array in weights.items()}
    training["step.output.bias"] = np.array(step, dtype=np.float32)
    training["state.h"] = rng.normal(size=(L, B, H)).astype(np.float32)
    return Checkpoint(weights, training, Progress(step=step, seconds=0.1 * take))


def save(run: Run, step: int, *, is_best: bool = False, take: int = 0) -> Path:
    """Save what a trainer would have after a step; returns the checkpoint's folder."""
    checkpoint = contents(step, take)
    save_checkpoint(run, checkpoint, is_best=is_best)
    return run.checkpoints / checkpoint.name


def holds(checkpoint: Checkpoint, step: int) -> bool:
    """Whether a checkpoint is, bit for bit, what `save` wrote at this step."""
    expected = contents(step, take=round(10 * checkpoint.progress.seconds))
    arrays = [(checkpoint.weights, expected.weights), (checkpoint.training, expected.training)]
    return checkpoint.progress == expected.progress and all(
        found.keys() == wanted.keys()
        and all(
            (found[name].dtype, found[name].shape, found[name].tobytes())
            == (wanted[name].dtype, wanted[name].shape, wanted[name].tobytes())
            for name in wanted
        )
        for found, wanted in arrays
    )


def step_of(run: Run, pointer: str) -> int:
    """The step of the checkpoint that a pointer names, which must be whole."""
    checkpoint = read_checkpoint(run, pointer)  # type: ignore[arg-type]
    step = int(checkpoint.name.removeprefix("step-"))
    assert holds(checkpoint, step)
    return step


def steps_kept(run: Run) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in run.checkpoints.iterdir())


def leftovers(run: Run) -> list[Path]:
    return [path for path in run.folder.rglob("*") if path.name.startswith(UNFINISHED)]
