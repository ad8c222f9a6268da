"""The likeliest documents, best first: a best-first search over what they can begin with.

Letters: `B` prefixes read together, `V` vocabulary, `H` hidden, `L` layers, `P` places.

No document is likelier than what it begins with. So prefixes wait, the likeliest are read first, many at a time, and
those are forgotten that are less likely than as many documents as are wanted. A document that is likelier than every
prefix that waits is likelier than all that are still to be found.
"""

import math
from bisect import insort
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.errors import RunError
from charlstm.inference.automaton import Constraint
from charlstm.inference.documents import Document, Filter, Tally
from charlstm.inference.engine import Stepper
from charlstm.inference.sampling import MOST_LEFT, all_log_probs, read_ids

READ_PREFIXES = 64  # at a time, at least
READ_SHARE = 64  # one of so many that wait, so that handling these costs less than reading
READ_LOGITS = 1 << 20  # at a time, at most
MOST_PREFIXES = 1_000_000  # that wait, of 16 bytes each
MOST_STATE_BYTES = 256_000_000  # of prefixes that were read
PREFIX = np.dtype([("log_prob", np.float64), ("place", np.int32), ("id", np.int32)])  # that of its state; its last id


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
    symbols = np.array([*map(chr, range(logits.shape[1]))], dtype=object)
    queue = _Queue(state, len(prefix), wanted, length, end, constraint, len(symbols), most_prefixes)
    paths = np.array(["".join(map(chr, prefix))], dtype=object)
    places, log_probs = queue.keep(state, np.full(1, constraint.start), paths), np.zeros(1)
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
        if not len(queue.prefixes):
            others = f" (left out: {tally})" if tally.left_out else ""
            raise RunError(
                f"there are only {tally.kept:,} of {wanted:,}{others}: ask for fewer, or longer ones (--length)"
            )
        log_probs, parents, ids = queue.take_prefixes()
        states = constraint.advance(queue.constraint_states[parents], ids)
        logits, state = stepper.step(ids, tuple(part[:, parents] for part in queue.states))
        paths = queue.paths[parents] + symbols[ids]
        queue.release(parents)
        places = queue.keep(state, states, paths)


class _Queue:
    """What waits to be read, the states after what was, each at a place of its own, and documents not yet certain."""

    def __init__(
        self,
        state: State,
        prefix_length: int,
        wanted: int,
        length: int | None,
        end: int,
        constraint: Constraint,
        vocab_size: int,
        most_prefixes: int,
    ) -> None:
        self.prefix_length, self.wanted, self.length, self.end = prefix_length, wanted, length, end
        self.constraint, self.most_prefixes = constraint, most_prefixes
        self.prefixes = np.empty(0, dtype=PREFIX)  # that wait
        self.highest = -math.inf  # log-probability of one that waits
        self.documents: list[tuple[float, int, Document]] = []  # −log-probability, number; the likeliest first
        self.offered = 0
        self.lost = -math.inf  # the highest log-probability of a prefix that was dropped for want of memory
        self.most_places = min(MOST_STATE_BYTES // sum(part.nbytes for part in state), most_prefixes)
        self.most_read = max(READ_PREFIXES, min(self.most_places // 16, READ_LOGITS // vocab_size))
        count = self.most_places + self.most_read  # `P`; memory that no prefix has needed yet is not taken
        self.states = tuple(np.empty((len(part), count, part.shape[2]), part.dtype) for part in state)  # (L, P, H)
        self.constraint_states = np.empty(count, dtype=np.intp)
        self.paths = np.empty(count, dtype=object)  # the ids before each place, as characters: str is compact
        self.children = np.zeros(count, dtype=np.int32)  # how many prefixes that wait go on from each place
        self.free = list(range(count))[::-1]

    @property
    def least(self) -> float:
        """The log-probability that a document must exceed to be among those wanted, and certain."""
        return max(self.lost, -self.documents[-1][0] if len(self.documents) == self.wanted else -math.inf)

    def keep(self, state: State, constraint_states: NDArray[np.intp], paths: NDArray[np.object_]) -> NDArray[np.intp]:
        """Keep the states (L, B, H) after some paths (B,); their places."""
        places = np.array(self.free[-len(paths) :])
        del self.free[-len(paths) :]
        for own, part in zip(self.states, state, strict=True):
            own[:, places] = part
        self.constraint_states[places] = constraint_states
        self.paths[places] = paths
        return places

    def scores(
        self, places: NDArray[np.intp], logits: NDArray[np.floating], log_probs: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Log-probabilities (B, V) of paths, theirs (B,), with one id more each; −∞ for what may not follow."""
        lengths = np.fromiter(map(len, self.paths[places]), np.intp, len(places)) - self.prefix_length
        left = MOST_LEFT - lengths if self.length is None else self.length + 1 - lengths
        allowed = self.constraint.allowed(self.constraint_states[places], left)
        return np.where(allowed, log_probs[:, None] + all_log_probs(logits), -np.inf)

    def endings(self, places: NDArray[np.intp], scores: NDArray[np.float64]) -> Iterator[Document]:
        """The documents that end after these paths, the likeliest first, as far as they may be among those wanted."""
        log_probs = scores[:, self.end]
        for row in np.argsort(-log_probs, kind="stable").tolist():
            if log_probs[row] <= self.least:
                return
            ids = np.array([*map(ord, self.paths[places[row]])], dtype=np.intp)
            yield Document(ids, float(log_probs[row]), len(ids) - self.prefix_length + 1)

    def offer(self, document: Document) -> None:
        """Have a document wait until it is certain."""
        insort(self.documents, (-document.log_prob, self.offered, document))
        del self.documents[self.wanted :]
        self.offered += 1

    def extend(self, places: NDArray[np.intp], scores: NDArray[np.float64]) -> None:
        """Have the paths with one id more wait to be read, as far as they may lead to a document that is wanted."""
        scores[:, self.end] = -np.inf
        rows, ids = np.nonzero(scores > self.least)
        self.children[places] = np.bincount(rows, minlength=len(places))
        self.free += places[self.children[places] == 0].tolist()
        more = np.empty(len(rows), dtype=PREFIX)
        more["log_prob"], more["place"], more["id"] = scores[rows, ids], places[rows], ids
        self.prefixes = np.concatenate([self.prefixes, more])
        self._forget(np.flatnonzero(self.prefixes["log_prob"] <= self.least))
        while len(self.prefixes) > self.most_prefixes or len(self.paths) - len(self.free) > self.most_places:
            order = np.argsort(self.prefixes["log_prob"])
            dropped = order[: (len(order) + 1) // 2]
            self.lost = self.prefixes["log_prob"][dropped[-1]]
            self._forget(dropped)
        self.highest = self.prefixes["log_prob"].max(initial=-math.inf)

    def take_certain(self) -> Document | None:
        """The likeliest document, None if a prefix that waits is likelier. Raises RunError if a dropped one may be."""
        likeliest = -self.documents[0][0] if self.documents else -math.inf
        if max(self.highest, likeliest) < self.lost:
            raise RunError(
                "the beginnings of documents that may be among the likeliest need more memory than there is for them: "
                "ask for fewer (--best), shorter (--length) or more alike (--match); those given are certain"
            )
        if not self.documents or likeliest < self.highest:
            return None
        self.wanted -= 1
        return self.documents.pop(0)[-1]

    def take_prefixes(self) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.intp]]:
        """The likeliest prefixes: their log-probabilities (B,), the places before their last ids, and these."""
        count = min(max(READ_PREFIXES, len(self.prefixes) // READ_SHARE), self.most_read, len(self.prefixes))
        order = np.argpartition(-self.prefixes["log_prob"], count - 1)
        taken, self.prefixes = self.prefixes[order[:count]], self.prefixes[order[count:]]
        return taken["log_prob"], taken["place"].astype(np.intp), taken["id"].astype(np.intp)

    def release(self, places: NDArray[np.intp]) -> None:
        """Forget one child of each place, as often as it is named, and the places that have none left."""
        parents, counts = np.unique(places, return_counts=True)
        self.children[parents] -= counts.astype(np.int32)
        self.free += parents[self.children[parents] == 0].tolist()

    def _forget(self, dropped: NDArray[np.intp]) -> None:
        if len(dropped):
            self.release(self.prefixes["place"][dropped])
            self.prefixes = np.delete(self.prefixes, dropped)
