"""The likeliest documents, best first: a best-first search over what they can begin with.

Letters: `B` prefixes read together, `V` vocabulary, `H` hidden, `L` layers, `P` places.

No document is likelier than what it begins with. So prefixes wait in a queue, the likeliest are read first, many at a
time, and a document that is likelier than every prefix that waits is likelier than all that are still to be found.
"""

import math
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace, nsmallest

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.errors import RunError
from charlstm.inference.automaton import Constraint
from charlstm.inference.documents import Document, Filter, Tally
from charlstm.inference.engine import Stepper
from charlstm.inference.sampling import MOST_LEFT, all_log_probs, read_ids

READ_PREFIXES = 64  # at a time
MOST_PREFIXES = 1_000_000  # that wait, of about 150 bytes each
MOST_STATE_BYTES = 256_000_000  # of prefixes that were read
LEAST_FLOAT = -np.finfo(np.float64).max


def find_likeliest(
    stepper: Stepper,
    *,
    start: int,
    end: int,
    wanted: int,
    length: int | None,
    constraint: Constraint,
    prefix: Sequence[int] = (),
    filters: Sequence[Filter] = (),
    tally: Tally,
    most_prefixes: int = MOST_PREFIXES,
) -> Iterator[Document]:
    """The likeliest documents that begin with a prefix, the likeliest first; no likelier one is left out.

    start: the id that is read before a document. end: the one that ends it. length: characters after the prefix at
    most, None for any number. constraint: what documents may be written with; it starts after the prefix, and leaves
    the model's probabilities as they are. most_prefixes: that wait at a time.
    Raises RunError, after those that were found, if there are no more, or if more would need more memory.
    """
    logits, state = read_ids(stepper, [start, *prefix])
    queue = _Queue(state, prefix, wanted, length, end, constraint, most_prefixes)
    places, log_probs = queue.keep(state, np.full(1, constraint.start), [_packed(prefix)]), np.zeros(1)
    while True:
        scores = queue.scores(places, logits, log_probs)
        for document in queue.endings(places, scores):
            if tally.keeps(document, filters):
                queue.offer(document)
        queue.extend(places, scores)
        while (found := queue.take_certain()) is not None:
            tally.kept += 1
            tally.mass += math.exp(found.log_prob)
            yield found
            if tally.kept == wanted:
                return
        if not queue.prefixes:
            others = f" (left out: {tally})" if tally.left_out else ""
            raise RunError(
                f"there are only {tally.kept:,} of {wanted:,}{others}: ask for fewer, or longer ones (--length)"
            )
        log_probs, parents, ids = queue.take_prefixes()
        states = constraint.advance(queue.constraint_states[parents], ids)
        logits, state = stepper.step(ids, tuple(part[:, parents] for part in queue.states))
        paths = [queue.paths[parent] + _packed([one]) for parent, one in zip(parents, ids, strict=True)]
        queue.release(parents.tolist())
        places = queue.keep(state, states, paths)


class _Queue:
    """What waits to be read, the states after what was, each at a place of its own, and documents not yet certain."""

    def __init__(
        self,
        state: State,
        prefix: Sequence[int],
        wanted: int,
        length: int | None,
        end: int,
        constraint: Constraint,
        most_prefixes: int,
    ) -> None:
        self.prefix_length, self.wanted, self.length, self.end = len(prefix), wanted, length, end
        self.constraint, self.most_prefixes = constraint, most_prefixes
        self.prefixes: list[tuple[float, int, int]] = []  # −log-probability, the place before the last id, the last id
        self.documents: list[tuple[float, int, Document]] = []  # −log-probability, number
        self.best: list[float] = []  # log-probabilities of the `wanted` likeliest documents so far, the least first
        self.offered = 0
        self.lost = -math.inf  # the highest log-probability of a prefix that was dropped for want of memory
        self.states = tuple(part[:, :0] for part in state)  # (L, P, H)
        self.constraint_states = np.zeros(0, dtype=np.intp)  # (P,)
        self.paths: list[bytes] = []  # the ids before each place
        self.children: list[int] = []  # how many prefixes that wait go on from each place
        self.free: list[int] = []
        self.most_places = MOST_STATE_BYTES // sum(part.nbytes for part in state)

    @property
    def least(self) -> float:
        """The log-probability that a document must exceed to be among those wanted."""
        return self.best[0] if len(self.best) == self.wanted else LEAST_FLOAT

    def keep(self, state: State, constraint_states: NDArray[np.intp], paths: list[bytes]) -> list[int]:
        """Keep the states (L, B, H) after some paths; their places."""
        if len(self.free) < len(paths):
            count = max(len(self.paths), READ_PREFIXES)
            more = [np.empty((len(part), count, part.shape[2]), part.dtype) for part in self.states]
            self.states = tuple(np.concatenate(both, axis=1) for both in zip(self.states, more, strict=True))
            self.constraint_states = np.append(self.constraint_states, np.zeros(count, dtype=np.intp))
            self.free += range(len(self.paths), len(self.paths) + count)
            self.paths += [b""] * count
            self.children += [0] * count
        places = [self.free.pop() for _ in paths]
        for own, part in zip(self.states, state, strict=True):
            own[:, places] = part
        self.constraint_states[places] = constraint_states
        for place, path in zip(places, paths, strict=True):
            self.paths[place] = path
        return places

    def scores(
        self, places: list[int], logits: NDArray[np.floating], log_probs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Log-probabilities (B, V) of paths, theirs (B,), with one id more each; −∞ for what may not follow."""
        lengths = np.array([len(self.paths[place]) // 4 - self.prefix_length for place in places])
        left = MOST_LEFT - lengths if self.length is None else self.length + 1 - lengths
        allowed = self.constraint.allowed(self.constraint_states[places], left)
        return np.where(allowed, log_probs[:, None] + all_log_probs(logits), -np.inf)

    def endings(self, places: list[int], scores: NDArray[np.float64]) -> Iterator[Document]:
        """The documents that end after these paths, as far as they may be among those wanted."""
        for row in np.flatnonzero(scores[:, self.end] >= self.least).tolist():
            ids = np.frombuffer(self.paths[places[row]], dtype=np.uint32).astype(np.intp)
            yield Document(ids, float(scores[row, self.end]), len(ids) - self.prefix_length + 1)

    def offer(self, document: Document) -> None:
        """Have a document wait until it is certain."""
        full = len(self.best) == self.wanted
        if not full or document.log_prob > self.least:
            (heapreplace if full else heappush)(self.best, document.log_prob)
            heappush(self.documents, (-document.log_prob, self.offered, document))
            self.offered += 1

    def extend(self, places: list[int], scores: NDArray[np.float64]) -> None:
        """Have the paths with one id more wait to be read, as far as they may lead to a document that is wanted."""
        scores[:, self.end] = -np.inf
        rows, ids = np.nonzero(scores >= self.least)
        for row, one, score in zip(rows.tolist(), ids.tolist(), scores[rows, ids].tolist(), strict=True):
            heappush(self.prefixes, (-score, places[row], one))
            self.children[places[row]] += 1
        self.free += [place for place in places if not self.children[place]]
        if len(self.prefixes) > self.most_prefixes or len(self.paths) - len(self.free) > self.most_places:
            self._drop_half()

    def take_certain(self) -> Document | None:
        """The likeliest document, None if a prefix that waits is likelier. Raises RunError if a dropped one may be."""
        highest = -self.prefixes[0][0] if self.prefixes else -math.inf
        if max(highest, -self.documents[0][0] if self.documents else -math.inf) < self.lost:
            raise RunError(
                "the beginnings of documents that may be among the likeliest need more memory than there is for them: "
                "ask for fewer (--best), shorter (--length) or more alike (--match); those given are certain"
            )
        if not self.documents or -self.documents[0][0] < highest:
            return None
        return heappop(self.documents)[-1]

    def take_prefixes(self) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        """The likeliest prefixes: their log-probabilities (B,), the places before their last ids, and these."""
        found = [heappop(self.prefixes) for _ in range(min(READ_PREFIXES, len(self.prefixes)))]
        negated, parents, ids = zip(*found, strict=True)
        return -np.array(negated), np.array(parents, dtype=np.intp), np.array(ids, dtype=np.intp)

    def release(self, places: list[int]) -> None:
        """Forget one child of each place, and the places that have none left."""
        for place in places:
            self.children[place] -= 1
            if not self.children[place]:
                self.free.append(place)

    def _drop_half(self) -> None:
        """Drop the less likely half of the prefixes."""
        kept = nsmallest(len(self.prefixes) // 2, self.prefixes)
        dropped = set(self.prefixes).difference(kept)
        highest = -min(dropped)[0]
        if highest >= self.least:  # otherwise none of them is needed
            self.lost = max(self.lost, highest)
        self.release([place for _, place, _ in dropped])
        heapify(kept)
        self.prefixes = kept


def _packed(ids: Sequence[int]) -> bytes:
    return np.array(ids, dtype=np.uint32).tobytes()
