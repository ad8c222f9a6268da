"""The weights of a model: their names, their shapes, and the check of those that come from a file.

Letters: `V` vocabulary, `E` embedding, `H` hidden.

    embedding.weight (V, E)   core.<name>_l<layer>, by `Cell.weight_shapes`   output.weight (V, O), output.bias (V,)

O is H or, with skip connections, H for each layer. A model that reads in both directions has core.forwards and
core.backwards, and twice that.
"""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import CELLS
from charlstm.errors import RunError
from charlstm.settings import ModelSettings

Weights: TypeAlias = Mapping[str, NDArray[Any]]


def weight_shapes(settings: ModelSettings, vocab_size: int) -> dict[str, tuple[int, ...]]:
    """Every weight of the model by name, with its shape."""
    cores = ("core.forwards.", "core.backwards.") if settings.bidirectional else ("core.",)
    layers_read = settings.num_layers if settings.skip_connections else 1
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.weight": (vocab_size, settings.embedding_size),
        "output.weight": (vocab_size, len(cores) * layers_read * settings.hidden_size),
        "output.bias": (vocab_size,),
    }
    for layer in range(settings.num_layers):
        input_size = settings.hidden_size if layer else settings.embedding_size
        of_layer = CELLS[settings.cell].weight_shapes(input_size, settings.hidden_size)
        shapes |= {f"{core}{name}_l{layer}": shape for core in cores for name, shape in of_layer.items()}
    return shapes


def count_weights(settings: ModelSettings, vocab_size: int) -> int:
    """How many numbers the weights of the model are."""
    return sum(map(math.prod, weight_shapes(settings, vocab_size).values()))


def training_flop(settings: ModelSettings, vocab_size: int) -> int:
    """Floating-point operations that training on one character takes: two a weight forward, and four backward.

    Those of the matrix products alone; the embedding is looked up.
    """
    shapes = weight_shapes(settings, vocab_size)
    return 6 * sum(math.prod(shape) for name, shape in shapes.items() if len(shape) > 1 and name != "embedding.weight")


def check_weights(weights: Weights, settings: ModelSettings, vocab_size: int, *, where: str) -> None:
    """Raise RunError unless the weights are those of the model in the settings: names, shapes, finite float32."""
    expected = weight_shapes(settings, vocab_size)
    if weights.keys() != expected.keys():
        odd = sorted(weights.keys() ^ expected.keys())[0]
        raise RunError(f"{where} does not fit the run's settings: the weight {odd} is in one and not in the other")
    for name, shape in expected.items():
        found = weights[name]
        if found.shape != shape or found.dtype != np.float32:
            raise RunError(
                f"{where} does not fit the run's settings: {name} is {found.dtype} {list(found.shape)}, "
                f"but must be float32 {list(shape)}"
            )
        if not np.isfinite(found).all():
            raise RunError(f"{where} holds numbers that are not finite in {name}: use an earlier checkpoint")
