"""Tallies: sums over predicted characters, added up and divided once.

Letters: `T` steps, `B` lanes, `V` vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from charlstm.networks import UNCOUNTED
from charlstm.settings import Naming

FIGURES = ("loss", "bits_per_char", "perplexity", "accuracy")


@dataclass(frozen=True)
class Tally:
    """Sums over predicted characters; every figure is a ratio of sums."""

    nats: float = 0.0
    hits: int = 0
    chars: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.nats + other.nats, self.hits + other.hits, self.chars + other.chars)

    @property
    def loss(self) -> float:
        """Cross-entropy in nats per character."""
        return self.nats / self.chars

    @property
    def bits_per_char(self) -> float:
        """Cross-entropy in bits per character."""
        return self.loss / math.log(2)

    @property
    def perplexity(self) -> float:
        """exp(loss): the size of the alphabet that a uniform guess would have to be made from."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    @property
    def accuracy(self) -> float:
        """Fraction of characters that were the most probable one."""
        return self.hits / self.chars

    def figures(self, naming: Naming) -> dict[str, float]:
        """Every figure by its name."""
        return {naming.name(figure): getattr(self, figure) for figure in FIGURES}


class LaneTallies(NamedTuple):
    """The sums of a tally for each lane, (B,) each."""

    nats: NDArray[np.float64]
    hits: NDArray[np.int64]
    chars: NDArray[np.int64]

    @classmethod
    def of_no_lane(cls) -> "LaneTallies":
        """Those of a process that computes none."""
        return cls(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))

    def total(self) -> Tally:
        """Their sum over lanes."""
        return Tally(float(self.nats.sum()), int(self.hits.sum()), int(self.chars.sum()))

    def put(self, lanes: NDArray[np.intp], of_lanes: "LaneTallies") -> None:
        """Set the sums of some lanes."""
        for sums, of_some in zip(self, of_lanes, strict=True):
            sums[lanes] = of_some


def tally_lanes(logits: Tensor, targets: Tensor) -> LaneTallies:
    """The tallies of one batch's lanes. logits (T, B, V); targets (T, B), UNCOUNTED where nothing is predicted."""
    counted = targets != UNCOUNTED
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNCOUNTED, reduction="none")
    hits = (logits.argmax(dim=-1) == targets) & counted
    return LaneTallies(
        _array(nats.view(targets.shape).sum(dim=0, dtype=torch.float64)), _array(hits.sum(0)), _array(counted.sum(0))
    )


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
