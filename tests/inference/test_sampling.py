"""Choosing among logits, and streams of samples: what is drawn, how often, and that streams are independent.

Letters: `B` streams, `V` vocabulary, `K` candidates.
"""

import math
from itertools import islice

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from charlstm.errors import RunError, TextError
from charlstm.inference import SamplingParameters, encode_known, generate, take_text
from charlstm.inference import log_probs as log_probs_of
from charlstm.inference.sampling import pick, sample_seeds
from charlstm.text.vocabulary import Vocab

LAST_DRAW = 1 - 2**-53  # the largest number below 1
ALPHABET = "\n abcdefghij"

logits_of_one = st.lists(st.integers(-12, 12), min_size=2, max_size=12).map(lambda row: np.array([row], np.float32))
temperatures = st.sampled_from([1e-30, 0.1, 0.8, 1.0, 3.0, 1e30])
draws_in_range = st.sampled_from([0.0, LAST_DRAW]) | st.floats(0, LAST_DRAW)


def vocab_of(symbols: str, *, unknown: bool = False) -> Vocab:
    policy = "replace" if unknown else "error"
    return Vocab(
        unit="char", symbols=tuple(sorted(symbols)), unknown=policy, newline="keep", has_unknown_symbol=unknown
    )


def pick_scored(logits: np.ndarray, draws: np.ndarray, parameters: SamplingParameters) -> tuple[np.ndarray, np.ndarray]:
    """One id a stream by its draw, with its log-probability."""
    ids = pick(logits, draws, parameters)
    return ids, log_probs_of(logits, ids)


def picked(logits: np.ndarray, draws: np.ndarray | list[float], parameters: SamplingParameters) -> np.ndarray:
    """The ids of many draws from one row of logits."""
    return pick_scored(logits.repeat(len(draws), axis=0), np.asarray(draws), parameters)[0]


def shares(logits: np.ndarray, temperature: float) -> np.ndarray:
    """The probability of each id of one row, by the definition of the softmax."""
    exponents = logits[0].astype(np.float64) / temperature
    weights = np.exp(exponents - exponents.max())
    return weights / weights.sum()


class Bigrams:
    """An engine whose logits depend on the last character alone: exactly the same among any other streams."""

    def __init__(self, size: int) -> None:
        self.table = np.random.default_rng(3).normal(0, 2, (size, size))
        self.output_bias = self.table[0]

    def zero_state(self, streams: int) -> tuple[np.ndarray, ...]:
        return (np.zeros((1, streams, 1)),)

    def step(self, ids: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        return self.table[ids], state


class Script(Bigrams):
    """An engine that is certain of a text: after t characters read, the next is the t-th of the script."""

    def __init__(self, ids: list[int], size: int) -> None:
        self.rows = np.eye(size)[[*ids, 0]]
        self.output_bias = self.rows[0]

    def step(self, _ids: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        read = state[0][0, :, 0].astype(int)
        return self.rows[np.minimum(read, len(self.rows) - 1)], (state[0] + 1,)


def texts(engine: object, vocab: Vocab, **how: object) -> dict[int, bytes]:
    """The finished samples by their seeds."""
    settings = {"parameters": SamplingParameters(), "prompt": [], "length": 40, "seed": 5, **how}
    parameters = settings.pop("parameters")
    steps = generate(engine, vocab, parameters, **settings)  # type: ignore[arg-type]
    return {one.seed: take_text(one, vocab) for live in steps for one in live if one.finished}


# one draw


@given(logits_of_one, st.integers(1, 14))
def test_pick_lets_exactly_k_survive_also_where_some_are_tied(logits: np.ndarray, k: int) -> None:
    size = logits.shape[1]
    grid = (np.arange(8 * size) + 0.5) / (8 * size)
    hot = SamplingParameters(temperature=1e30, top_k=k)  # so hot that all are alike
    survivors = set(picked(logits, grid, hot).tolist())
    assert len(survivors) == min(k, size)
    assert min(logits[0, list(survivors)]) >= max(
        (logits[0, i] for i in range(size) if i not in survivors), default=-99
    )


@given(logits_of_one, st.floats(0.01, 0.99), st.sampled_from([0.5, 1.0, 2.0]))
def test_pick_takes_the_smallest_set_that_holds_p(logits: np.ndarray, p: float, temperature: float) -> None:
    probabilities = np.sort(shares(logits, temperature))[::-1]
    sums = probabilities.cumsum()
    assume(np.abs(sums - p).min() > 1e-9)
    kept = int((sums < p).sum()) + 1
    inside = (sums[:kept] - probabilities[:kept] / 2) / sums[kept - 1]  # one draw for each that is kept
    found = picked(logits, [*inside, LAST_DRAW], SamplingParameters(temperature=temperature, top_p=p))
    assert len(set(found[:-1].tolist())) == kept
    assert np.allclose(shares(logits, temperature)[found[:-1]], probabilities[:kept])
    assert found[-1] in found[:-1]


@given(logits_of_one, draws_in_range)
def test_pick_takes_the_likeliest_at_temperature_0_whatever_the_draw(logits: np.ndarray, draw: float) -> None:
    assert picked(logits, [draw], SamplingParameters(temperature=0.0)) == logits[0].argmax()
    for temperature in (1e-30, 5e-324):
        (one,) = picked(logits, [draw], SamplingParameters(temperature=temperature))
        assert logits[0, one] == logits[0].max()


@given(logits_of_one, st.none() | st.integers(1, 14), st.none() | st.floats(0.01, 1), temperatures, draws_in_range)
def test_pick_never_draws_what_it_must_not(
    logits: np.ndarray, k: int | None, p: float | None, temperature: float, draw: float
) -> None:
    never = int(logits[0].argmax())
    for degree in (0.0, temperature):
        parameters = SamplingParameters(temperature=degree, top_k=k, top_p=p, never=never)
        assert picked(logits, [draw], parameters) != never


@given(logits_of_one, temperatures, draws_in_range)
def test_pick_gives_the_models_own_log_probability(logits: np.ndarray, temperature: float, draw: float) -> None:
    ids, log_probs = pick_scored(logits, np.array([draw]), SamplingParameters(temperature=temperature, top_k=3))
    assert math.isclose(math.exp(log_probs[0]), shares(logits, 1.0)[ids[0]], rel_tol=1e-9, abs_tol=1e-300)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1e30])
@pytest.mark.parametrize("top_k", [None, 4])
def test_pick_draws_as_often_as_the_probabilities_say(temperature: float, top_k: int | None) -> None:
    logits = np.random.default_rng(1).normal(0, 1.5, (1, 9))
    expected = shares(logits, temperature)
    if top_k is not None:
        expected[np.argsort(-logits[0])[top_k:]] = 0
        expected /= expected.sum()
    draws = 40_000
    ids = picked(
        logits, np.random.default_rng(0).random(draws), SamplingParameters(temperature=temperature, top_k=top_k)
    )
    counts = np.bincount(ids, minlength=9)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - draws * expected) ** 2 / (draws * np.where(possible, expected, 1)))[possible].sum()
    assert chi_square < 30  # 8 degrees of freedom pass 26 once in a thousand times


def test_pick_counts_a_draw_at_the_border_of_two_shares_to_the_second() -> None:
    draws = [0.0, np.nextafter(0.5, 0), 0.5, LAST_DRAW]
    assert "".join(map(str, picked(np.zeros((1, 2)), draws, SamplingParameters()))) == "0011"


# streams of samples


@given(
    st.sampled_from([2, 12, 129, 300]),  # a single stream and large vocabularies have ways of their own
    st.integers(0, 99),
    st.none() | st.integers(1, 40),
    st.none() | st.floats(0.01, 0.99),
)
def test_pick_gives_a_single_stream_what_it_gives_it_among_others(
    size: int, seed: int, k: int | None, p: float | None
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-20, 20, (5, size)) / np.float32(8) if seed % 2 else rng.normal(size=(5, size))  # ties, none
    draws, parameters = rng.random(5), SamplingParameters(temperature=0.7, top_k=k, top_p=p, never=1)
    together, together_log_probs = pick_scored(logits, draws, parameters)
    for row in range(5):
        alone, log_probs = pick_scored(logits[row : row + 1], draws[row : row + 1], parameters)
        assert alone[0] == together[row]
        assert log_probs[0] == pytest.approx(together_log_probs[row], abs=1e-12)
        allowed = np.where(np.arange(size) == 1, -np.inf, logits[row])
        assert alone[0] in np.argsort(-allowed, kind="stable")[:k]  # of tied ones the lower ids


@pytest.mark.parametrize("streams", [1, 3, 64])
def test_generate_makes_each_sample_as_if_it_were_alone(streams: int) -> None:
    vocab = vocab_of(ALPHABET)
    engine = Bigrams(vocab.size)
    stop_ids = encode_known(vocab, "ei")  # ends samples at different lengths, so that their places are taken over
    together = texts(engine, vocab, samples=20, lanes=streams, stop_ids=stop_ids)
    alone = {seed: texts(engine, vocab, seed=seed, stop_ids=stop_ids)[seed] for seed in islice(sample_seeds(5), 20)}
    assert together == alone
    assert len(set(map(len, alone.values()))) > 1
    assert len(texts(engine, vocab, samples=11, length=3, lanes=streams)) == 11  # also when they finish together


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("how", [{"temperature": 0.0}, {"top_k": 3}, {"top_p": 0.5}])
def test_pick_refuses_logits_that_are_no_numbers(lanes: int, how: dict[str, float]) -> None:
    logits = np.random.default_rng(1).normal(size=(lanes, 6))
    logits[-1] = np.nan
    with pytest.raises(RunError, match="gives no probabilities"):
        pick(logits, np.full(lanes, 0.5), SamplingParameters(**how))  # type: ignore[arg-type]


def test_samples_of_two_seeds_share_none() -> None:
    vocab = vocab_of(ALPHABET)
    one, same, other = (texts(Bigrams(vocab.size), vocab, seed=seed, samples=100) for seed in (1, 1, 2))
    fewer = texts(Bigrams(vocab.size), vocab, seed=1, samples=10)
    assert one == same
    assert fewer.items() <= one.items()
    assert len({*one.values(), *other.values()}) == 200
    assert max(islice(sample_seeds(2**60), 1, 1000)) < 2**53


@pytest.mark.parametrize("length", [0, 1, 2, 77])
def test_generate_counts_the_generated_characters_exactly(length: int) -> None:
    vocab = vocab_of(ALPHABET)
    found = texts(Bigrams(vocab.size), vocab, length=length, samples=3, prompt=vocab.encode_text("abc", where="here"))
    assert [len(text) for text in found.values()] == [length] * 3


def test_generate_never_draws_the_unknown_symbol() -> None:
    vocab = vocab_of("ab", unknown=True)
    engine = Bigrams(vocab.size)
    engine.table[:, vocab.unknown_id] = 9.0
    for temperature, top_k in ((0.0, None), (1.0, None), (1e30, 3)):
        parameters = SamplingParameters(temperature=temperature, top_k=top_k)
        assert set(texts(engine, vocab, parameters=parameters, length=200)[5]) <= set(b"ab")


def test_generate_tells_the_mean_log_probability() -> None:
    vocab = vocab_of("ab")
    engine = Bigrams(2)
    engine.table[:] = np.log([0.25, 0.75])
    *_, (sample,) = generate(engine, vocab, SamplingParameters(temperature=0.0), prompt=[0], length=10, seed=1)  # type: ignore[arg-type]
    assert sample.mean_log_prob == pytest.approx(math.log(0.75))


@given(st.lists(st.sampled_from("abc"), max_size=12).map("".join), st.text("abc", min_size=1, max_size=3))
def test_generate_tells_the_mean_log_probability_of_the_text_without_its_stop(script: str, stop: str) -> None:
    vocab = vocab_of("abc~")
    engine = Script([*vocab.encode_text(script, where="here").tolist(), *[3] * 20], vocab.size)
    engine.rows[:] += np.arange(len(engine.rows))[:, None] * np.eye(4)[3] * 1e-3  # another probability in each place
    stop_ids = encode_known(vocab, stop)
    how = SamplingParameters(temperature=0.0)
    *_, (sample,) = generate(engine, vocab, how, prompt=[], length=20, seed=1, stop_ids=stop_ids)  # type: ignore[arg-type]
    text = (script + "~" * 20)[:20].partition(stop)[0]
    read = vocab.encode_text(text, where="here")
    rows = engine.rows[: len(read)]
    expected = log_probs_of(rows, read).mean() if text else None
    assert take_text(sample, vocab).decode() == text
    assert sample.chars == len(text)
    assert sample.mean_log_prob == (pytest.approx(expected) if text else None)


class Listening(Bigrams):
    """Keeps what it is given to read."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.output_bias = np.where(np.arange(size) == size - 1, 40.0, 0.0)
        self.read: list[int] = []

    def step(self, ids: np.ndarray, state: tuple[np.ndarray, ...]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        self.read.extend(ids.tolist())
        return super().step(ids, state)


@pytest.mark.parametrize("prompt", ["", "cab", "\nd"])
def test_generate_reads_the_start_symbol_before_any_prompt_unless_cold(prompt: str) -> None:
    vocab = vocab_of(ALPHABET)
    ids = vocab.encode_text(prompt, where="here").tolist()
    for cold, head in ((False, [vocab.encode_text("\n", where="here")[0], *ids]), (True, ids)):
        engine = Listening(vocab.size)
        list(generate(engine, vocab, SamplingParameters(), prompt=ids, length=1, seed=1, cold=cold))  # type: ignore[arg-type]
        assert engine.read[: len(head)] == head
        assert len(engine.read) == len(head) + 1  # and the character that was drawn


def test_generate_cold_without_a_prompt_draws_from_the_output_bias_alone() -> None:
    vocab = vocab_of("abc")
    assert texts(Listening(3), vocab, length=1, cold=True) == {5: b"c"}


@given(st.text("ab", max_size=40), st.text("ab", min_size=1, max_size=5), st.integers(1, 45))
def test_take_text_streams_up_to_the_stop_and_nothing_of_it(script: str, stop: str, length: int) -> None:
    vocab = vocab_of("ab~")
    ids = [*vocab.encode_text(script, where="here").tolist(), *[vocab.size - 1] * 50]  # the script, then ~~~
    stop_ids = encode_known(vocab, stop)
    parameters = SamplingParameters(temperature=0.0)
    steps = generate(Script(ids, vocab.size), vocab, parameters, prompt=[], length=length, seed=1, stop_ids=stop_ids)  # type: ignore[arg-type]
    streamed = b"".join(take_text(one, vocab, stop_ids=stop_ids) for (one,) in steps)
    assert streamed.decode() == (script + "~" * 50)[:length].partition(stop)[0]


def test_encode_known_refuses_what_can_never_be_met() -> None:
    with pytest.raises(TextError, match=r"'z' \(U\+007A\)"):
        encode_known(vocab_of("ab"), "az")
