"""Small models with random weights, and the runs and texts that go with them. L, H, E and V all differ."""

from pathlib import Path

import numpy as np

from charlstm.inference import Engine
from charlstm.runs import Run
from charlstm.settings import DataSettings, ModelSettings, Settings
from charlstm.text.characters import CODE_POINTS, code_points
from charlstm.text.vocabulary import Vocab, build_vocab
from charlstm.weights import weight_shapes

L, H, E = 2, 9, 4
BYTES = Vocab(unit="byte", symbols=(), unknown="error", newline="keep", has_unknown_symbol=False)
TEXT = (
    "It said \"be </script><b>here</b> & 'now'\" (or not),\n\tthen\u00a0left: é, 😀.\n\n"
    + 'The [old] keeper "wound" the clock;\n  nothing (much) moved. She said "no" twice.\n' * 9
)


def vocab_of(text, *, unit="char", min_count=1, unknown="error", newline="keep"):
    counts = np.bincount(code_points(text), minlength=CODE_POINTS)
    return build_vocab(counts, DataSettings(unit=unit, min_count=min_count, unknown=unknown, newline=newline))


def model_settings(**changes):
    return ModelSettings(**{"embedding_size": E, "hidden_size": H, "num_layers": L, **changes})


def weights_of(model, vocab_size, *, seed=1):
    rng = np.random.default_rng(seed)
    shapes = weight_shapes(model, vocab_size)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def engine_of(vocab_size, **changes):
    model = model_settings(**changes)
    return Engine(weights_of(model, vocab_size), model)


def run_of(vocab, **changes):
    """A run that is nowhere on disk."""
    settings = Settings(model=model_settings(**changes), data=DataSettings(unit=vocab.unit))
    return Run(Path("made"), settings, vocab, text=None)
