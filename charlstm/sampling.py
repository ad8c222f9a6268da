"""From logits to text: temperature, top-k, top-p, and streams of samples that advance together.

Letters: `B` streams, `V` vocabulary, `K` candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.engine import Engine
from charlstm.errors import TextError
from charlstm.vocab import Vocab, name_characters

STREAMS = 64  # samples that advance together; a larger batch gains little


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How the next character is chosen. temperature 0 is argmax; None switches a filter off."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    never: int | None = None  # an id that is never drawn: the unknown symbol


@dataclass
class Sample:
    """One text in the making. Ids wait in `pending` until someone takes them as text."""

    seed: int
    rng: np.random.Generator
    pending: list[int] = field(default_factory=list)
    chars: int = 0
    log_prob: float = 0.0  # the model's own, in nats, whatever the temperature and the filters
    finished: bool = False

    @property
    def mean_log_prob(self) -> float | None:
        """Nats per character under the model; None before the first."""
        return self.log_prob / self.chars if self.chars else None


def generate(
    engine: Engine,
    vocab: Vocab,
    choice: Choice,
    *,
    prompt: Sequence[int] | NDArray[np.integer],
    length: int | None,
    seed: int,
    samples: int = 1,
    stop_ids: Sequence[int] = (),
    streams: int = STREAMS,
) -> Iterator[list[Sample]]:
    """Generate samples, up to `streams` at a time; after each step yield those that were advanced.

    prompt: ids to read first; with none, the text begins as a line of the training text does.
    length: characters to generate, None for no end. stop_ids: a text that ends a sample and is left out of it.
    Sample number i draws from its own random numbers, seeded by seed + i, so that it is the same text whatever is
    generated beside it. A finished sample's place is taken by the next one. The unknown symbol is never drawn.
    """
    choice = replace(choice, never=vocab.unknown_id)
    stop = list(stop_ids)
    logits_at_start, state_at_start = _read(engine, np.asarray(prompt if len(prompt) else start_ids(vocab)))
    if length == 0:
        yield [Sample(seed + number, np.random.default_rng(seed + number), finished=True) for number in range(samples)]
        return
    started = min(samples, streams)
    live = [Sample(seed + number, np.random.default_rng(seed + number)) for number in range(started)]
    logits = logits_at_start.repeat(started, axis=0)  # (B, V)
    state = tuple(part.repeat(started, axis=1) for part in state_at_start)  # (L, B, H)
    while live:
        draws = np.array([sample.rng.random() for sample in live])
        ids, log_probs = choose(logits, draws, choice)
        for sample, chosen, log_prob in zip(live, ids.tolist(), log_probs.tolist(), strict=True):
            sample.pending.append(chosen)
            sample.chars += 1
            sample.log_prob += log_prob
            stopped = bool(stop) and sample.pending[-len(stop) :] == stop
            if stopped:
                del sample.pending[-len(stop) :]
            sample.finished = stopped or sample.chars == length
        yield live
        logits, state = engine.step(ids, state)
        for place in [place for place, sample in enumerate(live) if sample.finished][: samples - started]:
            live[place] = Sample(seed + started, np.random.default_rng(seed + started))
            started += 1
            logits[place] = logits_at_start[0]
            for part, at_start in zip(state, state_at_start, strict=True):
                part[:, place] = at_start[:, 0]
        going = [place for place, sample in enumerate(live) if not sample.finished]
        if len(going) < len(live):
            live = [live[place] for place in going]
            logits, state = logits[going], tuple(part[:, going] for part in state)


def take_text(sample: Sample, vocab: Vocab, *, stop_ids: Sequence[int] = ()) -> bytes:
    """Take what has been generated since the last time, as it goes to a file or pipe.

    Characters that may be the beginning of the stop are held back until it is known whether they are.
    """
    held = 0 if sample.finished else _held_back(sample.pending, list(stop_ids))
    cut = len(sample.pending) - held
    text = vocab.to_bytes(sample.pending[:cut])
    del sample.pending[:cut]
    return text


def choose(
    logits: NDArray[np.floating], draws: NDArray[np.float64], choice: Choice
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Choose one id a stream by its draw, a number in [0, 1).

    logits (B, V), draws (B,). Returns ids (B,) and the model's log-probabilities of them (B,), in nats.
    The K candidates are the top_k most probable, exactly that many even where some are tied; of these, after the
    temperature, the smallest set whose share reaches top_p (Holtzman et al. 2020). The draw is looked up in the
    cumulative sum of what is left.
    """
    rows = np.arange(len(logits))
    exact = logits.astype(np.float64)
    log_normaliser = exact.max(axis=1) + np.log(np.exp(exact - exact.max(axis=1, keepdims=True)).sum(axis=1))  # (B,)
    allowed = exact.copy()
    if choice.never is not None:
        allowed[:, choice.never] = -np.inf
    if choice.temperature == 0.0:
        ids = allowed.argmax(axis=1)
        return ids, exact[rows, ids] - log_normaliser
    count = min(choice.top_k or allowed.shape[1], allowed.shape[1])
    order = np.argsort(-allowed, axis=1, kind="stable")[:, :count]  # (B, K), most probable first
    scaled = np.take_along_axis(allowed, order, axis=1)
    with np.errstate(over="ignore"):  # a temperature near 0 sends all but the first to −∞, as it should
        weights = np.exp((scaled - scaled[:, :1]) / choice.temperature)
    if choice.top_p is not None:
        before = weights.cumsum(axis=1) - weights
        weights[before >= choice.top_p * weights.sum(axis=1, keepdims=True)] = 0.0
    cumulative = weights.cumsum(axis=1)
    picked = (cumulative <= draws[:, None] * cumulative[:, -1:]).sum(axis=1)
    ids = order[rows, picked]
    return ids, exact[rows, ids] - log_normaliser


def start_ids(vocab: Vocab) -> NDArray[np.integer]:
    """What is read, unseen, before a text without a prompt: a line end, else a space, else the first symbol."""
    for character in "\n ":
        if not vocab.unknown_characters(character):
            return vocab.encode_text(character, where="the beginning")
    return np.zeros(1, dtype=np.intp)


def encode_stop(vocab: Vocab, stop: str | bytes) -> list[int]:
    """The ids of a text that ends a sample. Raises TextError if it holds a character that is never generated."""
    unknown = vocab.unknown_characters(stop, where="--stop")
    if unknown:
        raise TextError(f"--stop can never be met: {name_characters(unknown)} is not in the model's vocabulary")
    return vocab.encode_text(stop, where="--stop").tolist()  # type: ignore[no-any-return]


def _read(engine: Engine, ids: NDArray[np.integer]) -> tuple[NDArray[np.floating], State]:
    """Logits (1, V) and state after reading ids from a zero state."""
    state = engine.zero_state(1)
    for position in range(len(ids)):
        logits, state = engine.step(ids[position : position + 1], state)
    return logits, state


def _held_back(ids: list[int], stop_ids: list[int]) -> int:
    """How many of the last ids are a beginning of the stop."""
    for count in range(min(len(ids), len(stop_ids) - 1), 0, -1):
        if ids[-count:] == stop_ids[:count]:
            return count
    return 0
