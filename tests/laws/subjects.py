"""Subjects, what a law is, and the experiments that laws make: random weights, inputs and states.

Letters: `T` steps, `B` lanes, `E` input, `H` hidden, `L` layers, `V` vocabulary. All sizes differ, and differ from
the number of gates (4, 3, 1), so that a swapped axis cannot pass.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from charlstm.cells import CELLS, Cell
from charlstm.inference import Engine
from charlstm.networks.cores import BUILTIN_KERNELS, Bidirectional, Core, Scan, builtin_scan, unrolled_scan

T, B, E, H, L, V = 7, 5, 8, 6, 2, 11
ROUNDING = 1e-12  # of float64 through a few steps and layers


@dataclass(frozen=True)
class Subject:
    """A cell that claims to be `CELLS[name]`, and the programs that run it."""

    name: str
    cell: Cell
    scan: Scan
    by_hand: bool = True  # whether the scan runs the cell's equations, or torch's kernel
    core: type[Core] = Core
    bidirectional: type[Bidirectional] = Bidirectional
    engine: type[Engine] = Engine


SUBJECTS: Mapping[str, Subject] = {
    **{name: Subject(name, cell, unrolled_scan(cell)) for name, cell in CELLS.items()},
    **{f"{name} builtin": Subject(name, CELLS[name], builtin_scan(name), by_hand=False) for name in BUILTIN_KERNELS},
}


@dataclass(frozen=True)
class Law:
    """What must be so, to within a tolerance, of the subjects that it speaks of."""

    difference: Callable[[Subject], float]
    tolerance: float
    concerns: Callable[[Subject], bool]


LAWS: dict[str, Law] = {}


def law(
    tolerance: float, concerns: Callable[[Subject], bool] = lambda _: True
) -> Callable[[Callable[[Subject], float]], Callable[[Subject], float]]:
    def enter(difference: Callable[[Subject], float]) -> Callable[[Subject], float]:
        LAWS[difference.__name__.replace("_", " ")] = Law(difference, tolerance, concerns)
        return difference

    return enter


def furthest(found: Iterable[Any], expected: Iterable[Any]) -> float:
    """The largest difference between two rows of arrays, NaN if there is one."""
    pairs = [(np.asarray(_plain(a)), np.asarray(_plain(b))) for a, b in zip(found, expected, strict=True)]
    assert all(a.shape == b.shape for a, b in pairs), [(a.shape, b.shape) for a, b in pairs]
    return float(np.max([np.abs(a - b).max() for a, b in pairs]))


def _plain(x: Any) -> Any:
    return x.detach().numpy() if isinstance(x, Tensor) else x


def randoms(seed: int) -> Callable[..., Tensor]:
    """Draws normal float64 arrays of a given shape and spread."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape, spread=1.0: torch.randn(shape, generator=generator, dtype=torch.float64) * spread


def random_core(subject: Subject, *, input_size: int = E, hidden_size: int = H, layers: int = L, seed: int = 1) -> Core:
    """A core in float64 with all its weights, biases and peepholes random."""
    core = subject.core(
        subject.cell, subject.scan, input_size=input_size, hidden_size=hidden_size, num_layers=layers
    ).double()
    draw = randoms(seed)
    with torch.no_grad():
        for weight in core.parameters():
            weight.copy_(draw(*weight.shape, spread=0.5))
    return core


def random_text(subject: Subject, *, layers: int = L) -> tuple[Tensor, tuple[Tensor, ...]]:
    """An input (T, B, E) and a state of (L, B, H) arrays."""
    draw = randoms(2)
    return draw(T, B, E), tuple(draw(layers, B, H) for _ in subject.cell.state)


def random_step(subject: Subject) -> tuple[Any, ...]:
    """NumPy arguments of one step: from_input, from_hidden, state, weight_ch."""
    draw, rows = randoms(3), len(subject.cell.gates) * H
    state = tuple(draw(B, H).numpy() for _ in subject.cell.state)
    shape = subject.cell.weight_ch_shape
    weight_ch = None if shape is None else draw(*shape(H)).numpy()
    return draw(B, rows).numpy(), draw(B, rows).numpy(), state, weight_ch


def is_by_hand(subject: Subject) -> bool:
    return subject.by_hand
