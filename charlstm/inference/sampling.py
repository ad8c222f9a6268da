"""From logits to text: temperature, top-k, top-p, and samples that advance together, each in a lane of its own.

Letters: `B` lanes, `V` vocabulary, `K` candidates.
"""

import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, count, islice

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.errors import RunError, TextError
from charlstm.inference.automaton import Constraint
from charlstm.inference.engine import Stepper
from charlstm.settings import SamplingSettings
from charlstm.text import Vocab, name_characters, start_id

EVERY = slice(None)
SAMPLED_LANES = 64  # samples that advance together; a larger batch gains little
DRAWS = 64  # random numbers of a sample made at once, which costs less than one by one
FEW = 32  # candidates up to which a single lane chooses quicker among lists than among arrays
MOST_LEFT = 2**31 - 2  # characters, where there is no limit
LARGE_VOCAB = 128  # symbols from which on finding the highest few beats sorting them all


@dataclass(frozen=True, kw_only=True)
class SamplingParameters:
    """How the next character is chosen. temperature 0 is argmax; None switches a filter off."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    never: int | list[int] | None = None  # an id that is never drawn, the unknown symbol, or several

    @classmethod
    def from_settings(cls, settings: SamplingSettings) -> "SamplingParameters":
        """Those of a run or a command."""
        return cls(temperature=settings.temperature, top_k=settings.top_k, top_p=settings.top_p)


@dataclass
class Sample:
    """One text as far as it is generated. Ids stay in `pending` until `take_text` decodes them."""

    number: int  # from 0, of those generated together
    seed: int  # with which it is generated alone
    draws: Iterator[float]  # its random numbers, each in [0, 1)
    pending: list[int] = field(default_factory=list)
    chars: int = 0  # generated; in the end without the stop
    log_prob: float = 0.0  # the model's own, in nats, whatever the temperature and the filters; NaN if not wanted
    last_log_probs: list[float] = field(default_factory=list)  # of as many characters as the stop has
    end_log_prob: float = 0.0  # of the end symbol
    finished: bool = False
    ended: bool = False  # finished by the end symbol

    @property
    def mean_log_prob(self) -> float | None:
        """Nats per character under the model; None before the first."""
        return self.log_prob / self.chars if self.chars else None


def generate(
    stepper: Stepper,
    vocab: Vocab,
    parameters: SamplingParameters,
    *,
    prompt: Sequence[int] | NDArray[np.integer],
    length: int | None,
    seed: int,
    samples: int | None = 1,
    which: slice = EVERY,
    stop_ids: Sequence[int] = (),
    end_id: int | None = None,
    constraint: Constraint | None = None,
    lanes: int = SAMPLED_LANES,
    scored: bool = True,
    cold: bool = False,
) -> Iterator[list[Sample]]:
    """Generate samples, up to `lanes` at a time; after each step yield those that it advanced.

    prompt: ids to read first, after the start symbol, with which texts begin in training. cold: to leave that out.
    length: characters to generate, None for no end. samples: None for as many as are asked for. which: of the samples.
    stop_ids: a text that ends a sample and is left out of it. end_id: a symbol that does so too, None for the boundary
    of documents; with length + 1 symbols to generate, documents of that length can still be ended by it.
    constraint: which symbols may come next; among those the model's probabilities are renormalised at each step.
    scored: whether to keep the log-probabilities, which cost a tenth of the time of a small model.
    Each sample draws from random numbers of its own (`sample_seeds`), so that it is the same text whatever is generated
    beside it, but where the last bits of a product with another number of rows decide. A finished sample's lane is
    given to the next one. The unknown symbol is never drawn.
    """
    end_id = vocab.boundary_id if end_id is None else end_id
    parameters = replace(parameters, never=vocab.unknown_id)
    stop = list(stop_ids)
    head = [*([] if cold else [start_id(vocab)]), *prompt]
    logits_at_start, state_at_start = read_ids(stepper, head)
    first, last, stride = which.indices(sys.maxsize if samples is None else samples)
    seeds = islice(enumerate(sample_seeds(seed)), first, last, stride)
    waiting = (Sample(number, one, _draws(one), log_prob=0.0 if scored else math.nan) for number, one in seeds)
    if length == 0:
        yield [replace(sample, finished=True) for sample in waiting]
        return
    live = list(islice(waiting, lanes))
    logits = logits_at_start.repeat(len(live), axis=0)  # (B, V)
    state = tuple(part.repeat(len(live), axis=1) for part in state_at_start)  # (L, B, H)
    start = 0 if constraint is None else constraint.start
    states = np.full(len(live), start)
    while live:
        possible = logits
        if constraint is not None:
            left = np.array([MOST_LEFT if length is None else length - sample.chars for sample in live])
            possible = np.where(constraint.allowed(states, left), logits, -np.inf)
        ids = pick(possible, np.array([next(sample.draws) for sample in live]), parameters)
        for sample, score, one in zip(live, log_probs(logits, ids).tolist(), ids, strict=True) if scored else ():
            if one == end_id:
                sample.end_log_prob = score
                continue
            sample.log_prob += score
            if stop:
                sample.last_log_probs = [*sample.last_log_probs, score][-len(stop) :]
        _extend(live, ids.tolist(), stop, length, end_id)
        yield live
        logits, state = stepper.step(ids, state)
        if constraint is not None:
            states = constraint.advance(states, ids)
        free = [lane for lane, sample in enumerate(live) if sample.finished]
        for lane, sample in zip(free, waiting, strict=False):
            live[lane] = sample
            logits[lane] = logits_at_start[0]
            states[lane] = start
            for part, at_start in zip(state, state_at_start, strict=True):
                part[:, lane] = at_start[:, 0]
        going = [lane for lane, sample in enumerate(live) if not sample.finished] if free else range(len(live))
        if len(going) < len(live):
            live, states = [live[lane] for lane in going], states[going]
            logits, state = logits[going], tuple(part[:, going] for part in state)


def sample_seeds(seed: int) -> Iterator[int]:
    """The seeds of samples number 0, 1, …: the first is `seed`, the others are drawn by (seed, number).

    Two seeds share none of them; each has 53 bits, which every reader of JSON keeps.
    """
    yield seed
    for number in count(1):
        (drawn,) = np.random.SeedSequence(seed, spawn_key=(number,)).generate_state(1, np.uint64)
        yield int(drawn) >> 11


def take_text(sample: Sample, vocab: Vocab, *, stop_ids: Sequence[int] = ()) -> bytes:
    """Take what has been generated since the last time, as it goes to a file or pipe.

    Characters that may be the beginning of the stop are held back until it is known whether they are.
    """
    held = 0 if sample.finished else _held_back(sample.pending, list(stop_ids))
    cut = len(sample.pending) - held
    text = vocab.to_bytes(sample.pending[:cut])
    del sample.pending[:cut]
    return text


def pick(logits: NDArray[np.floating], draws: NDArray[np.float64], parameters: SamplingParameters) -> NDArray[np.intp]:
    """The ids (B,) that the draws (B,), numbers in [0, 1), choose by the logits (B, V).

    The K candidates are the top_k most probable, exactly that many even where some are tied; of these, after the
    temperature, the smallest set whose share reaches top_p (Holtzman et al. 2020). The draw is looked up in the
    cumulative sum of what is left.
    """
    if parameters.never is not None:
        logits = logits.copy()
        logits[:, parameters.never] = -np.inf
    if parameters.temperature == 0.0:
        likeliest: NDArray[np.intp] = logits.argmax(axis=1)
        _refuse_nan(float(logits.max(axis=1).sum()))
        return likeliest
    most = min(parameters.top_k or logits.shape[1], logits.shape[1])
    if len(logits) == 1 and most <= FEW:
        return np.array([_pick_among_few(logits[0], float(draws[0]), parameters, most)])
    rows = np.arange(len(logits))
    order = _ranked(logits, most)  # (B, K)
    scaled = logits[rows[:, None], order].astype(np.float64)
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the first to −∞, as it should
        weights = np.exp((scaled - scaled[:, :1]) / parameters.temperature)
    cumulative = weights.cumsum(axis=1)
    total = cumulative[:, -1]
    _refuse_nan(float(total.sum()))
    if parameters.top_p is not None:
        total = cumulative[rows, (cumulative < parameters.top_p * total[:, None]).sum(axis=1)]
    picked = (cumulative <= (draws * total)[:, None]).sum(axis=1)
    ids: NDArray[np.intp] = order[rows, picked]
    return ids


def log_probs(logits: NDArray[np.floating], ids: NDArray[np.intp]) -> NDArray[np.float64]:
    """The model's log-probabilities (B,), in nats, of one id a lane."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = exact[np.arange(len(ids)), ids] - np.log(np.exp(exact).sum(axis=1))
    return found


def all_log_probs(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The model's log-probabilities (B, V), in nats."""
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    _refuse_nan(float(found.sum()))
    return found


def encode_known(vocab: Vocab, text: str | bytes, *, option: str = "--stop") -> list[int]:
    """The ids of a text that is to be met, or begun with. Raises TextError for a character that is never generated."""
    unknown = vocab.unknown_characters(text, where=option)
    if unknown:
        raise TextError(f"{option} can never be met: {name_characters(unknown)} is not in the model's vocabulary")
    return vocab.encode_text(text, where=option).tolist()  # type: ignore[no-any-return]


def _draws(seed: int) -> Iterator[float]:
    """The random numbers of one sample."""
    rng = np.random.default_rng(seed)
    while True:
        yield from rng.random(DRAWS).tolist()


def _extend(live: list[Sample], ids: list[int], stop: list[int], length: int | None, end_id: int | None) -> None:
    """Give each live sample its next id, and mark those that this finishes."""
    for sample, chosen in zip(live, ids, strict=True):
        if chosen == end_id:
            sample.finished = sample.ended = True
            continue
        pending = sample.pending
        pending.append(chosen)
        sample.chars += 1
        if stop and pending[-len(stop) :] == stop:
            del pending[-len(stop) :]
            sample.chars -= len(stop)
            sample.log_prob -= sum(sample.last_log_probs)
            sample.finished = True
        elif sample.chars == length:
            sample.finished = True


def _refuse_nan(number: float) -> None:
    if math.isnan(number):
        raise RunError("the model's weights are so large that it gives no probabilities: use an earlier checkpoint")


def _pick_among_few(logits: NDArray[np.floating], draw: float, parameters: SamplingParameters, most: int) -> int:
    """`pick` for a single lane (V,): lists of a few numbers cost half of what arrays do."""
    order = _ranked(logits, most)
    highest, *_ = scaled = logits[order].tolist()
    cumulative = list(accumulate([math.exp((logit - highest) / parameters.temperature) for logit in scaled]))
    total = cumulative[-1]
    _refuse_nan(total)
    if parameters.top_p is not None:
        total = cumulative[bisect_left(cumulative, parameters.top_p * total)]
    return int(order[bisect_right(cumulative, draw * total)])


def _ranked(logits: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """The ids (…, K) of the `count` highest logits (…, V), the highest first, of tied ones the lower id first."""
    size = logits.shape[-1]
    if size > LARGE_VOCAB and count < size // 4:
        found = np.sort(logits.argpartition(size - count)[..., size - count :])
        values = np.take_along_axis(logits, found, axis=-1)
        if np.count_nonzero(logits >= values.min(axis=-1, keepdims=True)) == found.size:  # no tie across the cut
            return np.take_along_axis(found, np.argsort(-values, kind="stable"), axis=-1)
    return (-logits).argsort(kind="stable")[..., :count]


def read_ids(stepper: Stepper, ids: Sequence[int]) -> tuple[NDArray[np.floating], State]:
    """Logits (1, V) and the state after reading ids from the zero state, before any of them the output's bias alone."""
    logits, state = stepper.output_bias[None], stepper.zero_state(1)
    for one in np.array(ids, dtype=np.intp)[:, None]:
        logits, state = stepper.step(one, state)
    return logits, state


def _held_back(ids: list[int], stop_ids: list[int]) -> int:
    """How many of the last ids are a beginning of the stop."""
    for held in range(min(len(ids), len(stop_ids) - 1), 0, -1):
        if ids[-held:] == stop_ids[:held]:
            return held
    return 0
