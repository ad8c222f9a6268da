"""The likeliest documents: those that enumeration finds, in its order, with the model's own probabilities."""

import math
import re
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.api import likeliest_documents
from charlstm.errors import RunError
from charlstm.inference import Document, Filter, Tally, compile_expression, find_likeliest, likeliest
from charlstm.inference.engine import Stepper
from charlstm.settings import DataSettings, ModelSettings, Settings, TrainingSettings
from charlstm.text import end_id, start_id
from charlstm.training import start_session

from .small_documents import documents_vocab, every_document, log_prob_of, random_model, text_of
from .test_sampling import Bigrams

VOCAB = documents_vocab("abc", unknown=True)


def search(
    model: Stepper,
    wanted: int,
    *,
    match: str = "(?s:.*)",
    length: int | None = 4,
    prefix: tuple[int, ...] = (),
    filters: tuple[Filter, ...] = (),
    tally: Tally | None = None,
    most_prefixes: int = 10_000,
) -> list[Document]:
    constraint = compile_expression(match, VOCAB).after(prefix)
    assert constraint is not None
    found = find_likeliest(
        model,
        start=start_id(VOCAB),
        end=end_id(VOCAB),  # type: ignore[arg-type]
        wanted=wanted,
        length=length,
        constraint=constraint,
        prefix=prefix,
        filters=filters,
        tally=tally or Tally(),
        most_prefixes=most_prefixes,
    )
    return list(found)


def by_enumeration(model: Stepper, match: str, length: int) -> list[tuple[float, str]]:
    texts = [(ids, text_of(VOCAB, ids)) for ids in every_document(VOCAB, length)]
    found = [(log_prob_of(model, VOCAB, ids), text) for ids, text in texts if re.fullmatch(match, text)]
    return sorted(found, reverse=True)


@given(st.integers(0, 10_000), st.sampled_from(["(?s:.*)", "[ab]+c?", "(a|bc){2}"]), st.sampled_from([-4.0, 0.0, 3.0]))
def test_likeliest_are_those_of_enumeration(seed: int, match: str, end_bias: float) -> None:
    model = random_model(VOCAB, seed, end_bias=end_bias)
    expected = by_enumeration(model, match, 4)
    wanted = min(30, len(expected))
    tally = Tally()
    found = search(model, wanted, match=match, tally=tally)
    assert [one.log_prob for one in found] == pytest.approx([score for score, _ in expected[:wanted]], abs=1e-9)
    assert [text_of(VOCAB, one.ids.tolist()) for one in found] == [text for _, text in expected[:wanted]]
    assert tally.mass == pytest.approx(sum(np.exp(score) for score, _ in expected[:wanted]))


@pytest.mark.parametrize("wanted", [1, 3, 7, 121])
def test_likeliest_of_tied_documents_are_as_many_and_no_likelier_one_is_missing(wanted: int) -> None:
    model = Bigrams(VOCAB.size)
    model.table = np.tile(np.array([1.0, 1.0, 0.0, -9.0, 1.0]), (VOCAB.size, 1))  # a and b alike, c not, the end
    expected = [score for score, _ in by_enumeration(model, "(?s:.*)", 4)][:wanted]  # type: ignore[arg-type]
    found = search(model, wanted)  # type: ignore[arg-type]
    assert [one.log_prob for one in found] == pytest.approx(expected, abs=1e-12)
    assert len({one.ids.tobytes() for one in found}) == wanted


def test_likeliest_begin_with_the_prefix_by_their_probabilities_after_it() -> None:
    model = random_model(VOCAB, 3)
    prefix = tuple(VOCAB.encode_text("ab", where="here").tolist())
    expected = sorted(
        (log_prob_of(model, VOCAB, [*prefix, *ids], len(prefix)), [*prefix, *ids]) for ids in every_document(VOCAB, 3)
    )[::-1]
    found = search(model, 9, prefix=prefix, length=3)
    assert [one.ids.tolist() for one in found] == [ids for _, ids in expected[:9]]
    assert [one.log_prob for one in found] == pytest.approx([score for score, _ in expected[:9]])
    assert [one.generated for one in found] == [len(one.ids) - 1 for one in found]


def test_likeliest_that_a_filter_leaves_out_are_replaced_and_counted() -> None:
    model = random_model(VOCAB, 4)
    everything = search(model, 40)
    tally = Tally()
    odd = search(model, 15, filters=(Filter("even", lambda one: len(one.ids) % 2 == 1),), tally=tally)
    assert [one.ids.tolist() for one in odd] == [one.ids.tolist() for one in everything if len(one.ids) % 2][:15]
    assert tally.left_out["even"] > 0


def test_likeliest_without_a_limit_of_length_go_as_deep_as_they_must() -> None:
    model = random_model(VOCAB, 2, end_bias=-2.0)
    found = search(model, 200, length=None)
    scores = [one.log_prob for one in found]
    assert scores == sorted(scores, reverse=True)
    assert max(len(one.ids) for one in found) > 4


def test_likeliest_that_are_fewer_are_all_given_before_the_reason() -> None:
    tally = Tally()
    with pytest.raises(RunError, match="there are only 2 of 3"):
        search(random_model(VOCAB, 1), 3, match="a|bc", tally=tally)
    assert tally.kept == 2


@pytest.mark.parametrize("most_prefixes", [20, 60, 200, 1000])
def test_likeliest_within_little_memory_are_right_or_refused(most_prefixes: int) -> None:
    model = random_model(VOCAB, 11, end_bias=-2.0)
    expected = search(model, 60, length=8, most_prefixes=100_000)
    tally = Tally()
    with pytest.raises(RunError, match="more memory") if most_prefixes < 1000 else nullcontext():
        search(model, 60, length=8, most_prefixes=most_prefixes, tally=tally)
    assert tally.mass == pytest.approx(sum(np.exp(one.log_prob) for one in expected[: tally.kept]))
    assert (tally.kept == 60) == (most_prefixes == 1000)


@pytest.mark.parametrize("most_places", [1, 3, 30])
def test_likeliest_within_few_states_are_right_or_refused(most_places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(VOCAB, 11, end_bias=-2.0)
    expected = search(model, 60, length=8)
    bytes_of_one = sum(part.nbytes for part in model.zero_state(1))
    monkeypatch.setattr(likeliest, "MOST_STATE_BYTES", most_places * bytes_of_one)
    monkeypatch.setattr(likeliest, "READ_PREFIXES", 8)
    tally = Tally()
    with pytest.raises(RunError, match="more memory"):
        search(model, 60, length=8, tally=tally)
    assert tally.mass == pytest.approx(sum(np.exp(one.log_prob) for one in expected[: tally.kept]))


@pytest.mark.parametrize(("at_least", "share"), [(1, 1000), (7, 1), (7, 3)])
def test_likeliest_are_the_same_however_many_prefixes_are_read_at_a_time(
    at_least: int, share: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(VOCAB, 12, end_bias=-1.0)
    expected = search(model, 100, length=7)
    monkeypatch.setattr(likeliest, "READ_PREFIXES", at_least)
    monkeypatch.setattr(likeliest, "READ_SHARE", share)
    found = search(model, 100, length=7)
    assert [one.ids.tolist() for one in found] == [one.ids.tolist() for one in expected]
    assert [one.log_prob for one in found] == pytest.approx([one.log_prob for one in expected])


@pytest.mark.long
def test_likeliest_of_a_trained_model_are_those_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Callable[[str], None]
) -> None:
    """Three letters of unequal probabilities, then, once in ten times, another: 100 short ones are the likeliest."""
    places = [dict(zip("abcd", (0.4, 0.3, 0.2, 0.1), strict=True))]
    places += [dict(zip(letters, (0.3, 0.25, 0.2, 0.15, 0.1), strict=True)) for letters in ("efghi", "jklmn")]
    draw = Random(7)
    lines = []
    for _ in range(60_000):
        line = "".join(draw.choices(list(place), list(place.values()))[0] for place in places)
        lines.append(line + (draw.choice("opqrst") if draw.random() < 0.1 else ""))
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("\n".join(lines) + "\n")
    chosen = Settings(
        data=DataSettings(sources=("lines.txt",), documents="line", shuffle=False),
        model=ModelSettings(hidden_size=48, num_layers=1, embedding_size=16, dropout=0.0),
        training=TrainingSettings(
            optimizer="adamw",
            learning_rate=0.004,
            warmup_steps=50,
            sequence_length=128,
            max_steps=700,
            shards=1,
            threads=1,
            precision="fp32",
            device="cpu",
        ),
    )
    with start_session(chosen, folder=tmp_path / "run") as session:
        run = session.train().run
    true = {"".join(letters): math.prod(map(dict.__getitem__, places, letters)) * 0.9 for letters in product(*places)}
    found = {text_of(run.vocab, one.ids.tolist()): one.log_prob for one in likeliest_documents(run, 100, length=9)}
    assert found.keys() == true.keys()
    tell(f"probabilities at most {max(abs(found[one] - math.log(true[one])) for one in true):.1%} off")
