"""Whole documents, or lines: drawn one after another until there are enough, and which of them to leave out."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import RunError
from charlstm.inference.sampling import Sample

FEWEST_MISSES = 1_000  # documents left out in a row before it is believed that no more are to be found
MISSES_PER_FOUND = 10  # of n that are equally likely the last one is missed so often once in 20,000 times

UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Document:
    """A whole document, without its end symbol."""

    ids: NDArray[np.intp]  # (N,), the prefix with them
    log_prob: float  # the model's own, in nats, of what follows the prefix, the end symbol with it
    generated: int  # symbols that it is of
    seed: int | None = None  # with which it is drawn alone; None for one that was searched for


@dataclass(frozen=True)
class Filter:
    """Which documents are left out."""

    reason: str  # what they are, as "12 repeated"
    keeps: Callable[[Document], bool]  # asked of each once, if those before it keep it


@dataclass
class Tally:
    """What became of the documents of a command: how many are kept, and why others are not."""

    kept: int = 0
    mass: float = 0.0  # the probability of those kept, where they were searched for
    left_out: Counter[str] = field(default_factory=Counter)

    def keeps(self, document: Document, filters: Sequence[Filter]) -> bool:
        """Whether all filters keep the document; counted."""
        refused = next((one.reason for one in filters if not one.keeps(document)), None)
        if refused is not None:
            self.left_out[refused] += 1
        return refused is None

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())


def repeated() -> Filter:
    """A filter that keeps each document the first time; it remembers them all."""
    seen: set[bytes] = set()

    def is_first(document: Document) -> bool:
        before = len(seen)
        seen.add(document.ids.tobytes())
        return len(seen) > before

    return Filter("repeated", is_first)


def collect_documents(
    steps: Iterator[list[Sample]], prefix: Sequence[int], *, wanted: int, filters: Sequence[Filter], tally: Tally
) -> Iterator[Document]:
    """The first documents, by the numbers of their samples, that ended and that all filters keep.

    steps: of `generate`, without end. prefix: the ids that it was prompted with.
    Raises RunError, after those that were found, if very many in a row have been left out.
    """
    misses = 0
    for sample in in_order(steps, count()):
        document = Document(
            np.array([*prefix, *sample.pending], dtype=np.intp),
            sample.log_prob + sample.end_log_prob,
            sample.chars + 1,
            sample.seed,
        )
        if not sample.ended:
            tally.left_out[UNFINISHED] += 1
        elif tally.keeps(document, filters):
            misses = 0
            tally.kept += 1
            yield document
            if tally.kept == wanted:
                return
            continue
        misses += 1
        if misses >= max(FEWEST_MISSES, MISSES_PER_FOUND * tally.kept):
            raise RunError(
                f"only {tally.kept:,} of {wanted:,} were found, then {misses:,} in a row were left out "
                f"(in all {tally}): ask for fewer or others, or draw more boldly (--temp, --set sampling.top_k=null)"
            )


def in_order(steps: Iterator[list[Sample]], numbers: Iterable[int]) -> Iterator[Sample]:
    """Each of the samples with these numbers when it and those before it are finished; steps: of `generate`."""
    waiting: dict[int, Sample] = {}
    for number in numbers:
        while number not in waiting:
            if (live := next(steps, None)) is None:
                return
            waiting |= {one.number: one for one in live if one.finished}
        yield waiting.pop(number)
