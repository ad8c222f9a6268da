"""What a text begins with: the zero state, which reads one symbol that stands for all that came before.

Letters: `T` steps, `N` characters of the text.

A model meets both in training (`Beginnings`), and from there samples, prompts and scored texts begin (`start_id`).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from charlstm.text.characters import code_points
from charlstm.text.vocabulary import Ids, Vocab

REACH_CHARS = 4096  # searched for a beginning: a page of the text, whatever its size


def start_id(vocab: Vocab) -> int:
    """The id of the symbol that is read, unseen, before a text: the boundary of documents, which each begins after.

    For a model of one stream, what most often stands before a beginning: a line end, else a space, else any symbol.
    """
    return vocab.boundary_id if vocab.boundary_id is not None else (*_divider_ids(vocab), 0)[0]


def end_id(vocab: Vocab) -> int | None:
    """The id of the symbol that ends a document: the boundary, a stream model's line end, None where it has neither."""
    if vocab.boundary_id is not None:
        return vocab.boundary_id
    (line_end,) = vocab.lookup(code_points("\n"))
    return int(line_end) if line_end >= 0 else None


def with_last_end(ids: Ids, end: int | None) -> Ids:
    """Ids (N,) whose last line has an end, as all others have; as they are where nothing ends lines."""
    return ids if end is None or len(ids) == 0 or ids[-1] == end else np.append(ids, end)


@dataclass(frozen=True)
class Beginnings:
    """Lanes that read, at every step, T characters from where a text might begin: a function of (seed, step, lane).

    That is after a blank line; where none is near, at the beginning of a line that is not empty; where no line begins
    near either, of a word; and where nothing divides the text, anywhere.
    """

    vocab: Vocab
    lanes: int
    seed: int

    def windows(self, ids: NDArray[np.integer], length: int, *, step: int) -> NDArray[np.int64]:
        """The start symbol and the T characters of each lane, (T + 1, lanes). ids: (N,), of which N ≥ T."""
        windows = np.full((length + 1, self.lanes), start_id(self.vocab), dtype=np.int64)
        firsts = len(ids) - length + 1  # as many places have T characters to read
        for lane in range(self.lanes):
            rng = np.random.default_rng((self.seed, step, lane))
            place = int(rng.integers(firsts))
            found = self._find_starts(ids[:firsts], min(place, max(0, firsts - REACH_CHARS)))
            first = int(found[rng.integers(len(found))]) if len(found) else place
            windows[1:, lane] = ids[first : first + length]
        return windows

    def _find_starts(self, ids: NDArray[np.integer], place: int) -> NDArray[np.intp]:
        """The beginnings within reach after a place: of paragraphs if there are any, else of lines, else of words."""
        found = (self._find_after(divider, ids, place) for divider in _divider_ids(self.vocab))
        return next((starts for starts in found if len(starts)), np.zeros(0, dtype=np.intp))

    def _find_after(self, divider: int, ids: NDArray[np.integer], place: int) -> NDArray[np.intp]:
        """The beginnings after a symbol, alone if there is no pair of it."""
        before_text = np.array([-1, -1, divider][place:], dtype=np.int64)  # so that its first character begins a line
        near = np.concatenate([before_text, ids[max(0, place - 3) : place + REACH_CHARS]])
        before, between, last, here = near[:-3], near[1:-2], near[2:-1], near[3:]
        (carriage_return,) = self.vocab.lookup(code_points("\r"))
        starts = (last == divider) & (here != divider) & (here != carriage_return)
        after_blank = starts & ((between == divider) | (between == carriage_return) & (before == divider))
        return place + np.flatnonzero(after_blank if after_blank.any() else starts)


def _divider_ids(vocab: Vocab) -> list[int]:
    """The symbols of a vocabulary after which lines and words begin."""
    return [int(found) for found in vocab.lookup(code_points("\n ")) if found >= 0]
