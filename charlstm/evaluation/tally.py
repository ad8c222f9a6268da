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
END_FIGURES = ("loss_without_end", "bits_per_char_without_end", "nats_per_document", "bits_per_document")


@dataclass(frozen=True)
class Tally:
    """Sums over predicted characters; every figure is a ratio of sums."""

    nats: float = 0.0
    hits: int = 0
    chars: int = 0  # with the ends of documents
    end_nats: float = 0.0
    documents: int = 0  # whose ends are counted

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

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

    @property
    def loss_without_end(self) -> float:
        """Cross-entropy of the characters alone, in nats per character; NaN of none."""
        chars = self.chars - self.documents
        return (self.nats - self.end_nats) / chars if chars else math.nan

    @property
    def bits_per_char_without_end(self) -> float:
        """Cross-entropy of the characters alone, in bits per character."""
        return self.loss_without_end / math.log(2)

    @property
    def nats_per_document(self) -> float:
        """Cross-entropy of a whole document and its end, in nats."""
        return self.nats / self.documents

    @property
    def bits_per_document(self) -> float:
        """Cross-entropy of a whole document and its end, in bits."""
        return self.nats_per_document / math.log(2)

    def figures(self, naming: Naming) -> dict[str, float]:
        """Every figure by its name."""
        figures = FIGURES + END_FIGURES if self.documents else FIGURES
        return {naming.name(figure): getattr(self, figure) for figure in figures}


class LaneTallies(NamedTuple):
    """The sums of a tally for each lane, (B,) each."""

    nats: NDArray[np.float64]
    hits: NDArray[np.int64]
    chars: NDArray[np.int64]
    end_nats: NDArray[np.float64]
    documents: NDArray[np.int64]

    def total(self) -> Tally:
        """Their sum over lanes."""
        return Tally(*(sums.sum().item() for sums in self))

    def put(self, lanes: NDArray[np.intp], of_lanes: "LaneTallies") -> None:
        """Set the sums of some lanes."""
        for sums, of_some in zip(self, of_lanes, strict=True):
            sums[lanes] = of_some


def tally_lanes(logits: Tensor, targets: Tensor, end_id: int | None = None) -> LaneTallies:
    """The tallies of one batch's lanes. logits (T, B, V); targets (T, B), UNCOUNTED where nothing is predicted.

    end_id: the target that ends a document; None for none.
    """
    counted = targets != UNCOUNTED
    nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=UNCOUNTED, reduction="none")
    nats = nats.view(targets.shape)
    hits = (logits.argmax(dim=-1) == targets) & counted
    ends = targets == end_id if end_id is not None else torch.zeros_like(counted)
    of_lanes = (nats, hits, counted, nats * ends, ends)
    return LaneTallies(*(_array(part.sum(0, dtype=_SUMS[part.dtype.is_floating_point])) for part in of_lanes))


_SUMS = {True: torch.float64, False: torch.int64}


def _array(tensor: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
