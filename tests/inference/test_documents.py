"""Whole documents: each with its end, drawn as the model says, valid, and as many as were asked for or a reason."""

import math
import re
from collections import Counter

import numpy as np
import pytest

from charlstm.errors import RunError
from charlstm.inference import (
    Document,
    Filter,
    SamplingParameters,
    Tally,
    collect_documents,
    compile_expression,
    generate,
    repeated,
)
from charlstm.inference.engine import Stepper
from charlstm.inference.sampling import all_log_probs, read_ids
from charlstm.text import Vocab, end_id, start_id

from .small_documents import documents_vocab, every_document, log_prob_of, random_model, text_of

VOCAB = documents_vocab("ab1.", unknown=True)


def draw(
    model: Stepper,
    vocab: Vocab = VOCAB,
    *,
    wanted: int = 50,
    match: str | None = None,
    prefix: list[int] | None = None,
    length: int = 6,
    filters: tuple[Filter, ...] = (),
    tally: Tally | None = None,
    **how: object,
) -> list[Document]:
    start = prefix or []
    constraint = None if match is None else compile_expression(match, vocab).after(start)
    settings = {"parameters": SamplingParameters(), "seed": 3, **how}
    parameters = settings.pop("parameters")
    steps = generate(
        model,
        vocab,
        parameters,  # type: ignore[arg-type]
        prompt=start,
        length=length + 1,
        samples=None,
        end_id=end_id(vocab),
        constraint=constraint,
        **settings,  # type: ignore[arg-type]
    )
    return list(collect_documents(steps, start, wanted=wanted, filters=filters, tally=tally or Tally()))


def texts(documents: list[Document], vocab: Vocab = VOCAB) -> list[str]:
    return [text_of(vocab, one.ids.tolist()) for one in documents]


@pytest.mark.parametrize("match", [None, r"[ab]{2,4}|\d(\.\d)*"])
@pytest.mark.parametrize("lanes", [1, 3, 64])
def test_documents_are_the_same_whatever_is_drawn_beside_them(lanes: int, match: str | None) -> None:
    model = random_model(VOCAB, 1)
    one, other = (draw(model, match=match, lanes=count, filters=(repeated(),), wanted=20) for count in (lanes, 5))
    assert texts(one) == texts(other)
    assert [each.seed for each in one] == [each.seed for each in other]
    assert len(set(texts(one))) == 20
    for number in (0, 7):
        (alone,) = draw(model, match=match, wanted=1, seed=one[number].seed)
        assert text_of(VOCAB, alone.ids.tolist()) == texts(one)[number]
        assert alone.log_prob == pytest.approx(one[number].log_prob)


def test_documents_tell_the_models_own_probability_end_included() -> None:
    model = random_model(VOCAB, 2)
    a = int(VOCAB.encode_text("a", where="here")[0])
    for how in ({}, {"prefix": [a]}, {"match": "a[ab]*", "prefix": [a]}, {"match": "[ab]{2}"}):
        for one in draw(model, parameters=SamplingParameters(temperature=0.5, top_k=3), **how):  # type: ignore[arg-type]
            begin = len(how.get("prefix", ()))
            assert one.log_prob == pytest.approx(log_prob_of(model, VOCAB, one.ids.tolist(), begin), abs=1e-9)
            assert one.generated == len(one.ids) - begin + 1


def expected_shares(model: Stepper, match: str, length: int) -> dict[str, float]:
    """The probability of each document that matches, where each step's are renormalised over what can be completed."""
    matching = {tuple(ids) for ids in every_document(VOCAB, length) if re.fullmatch(match, text_of(VOCAB, ids))}
    end = end_id(VOCAB)
    possible = {(*ids, end)[: place + 1] for ids in matching for place in range(len(ids) + 1)}
    found = {}
    for ids in matching:
        share = 1.0
        for place, one in enumerate((*ids, end)):
            logits, _ = read_ids(model, [start_id(VOCAB), *ids[:place]])
            probabilities = np.exp(all_log_probs(logits)[0])
            allowed = [each for each in range(VOCAB.size) if (*ids[:place], each) in possible]
            share *= probabilities[one] / probabilities[allowed].sum()
        found[text_of(VOCAB, list(ids))] = share
    return found


@pytest.mark.parametrize("match", ["[ab]{1,2}", "a*(b|1)", r".{3}|\.a?"])
def test_documents_that_match_are_drawn_as_often_as_the_renormalised_model_says(match: str) -> None:
    model = random_model(VOCAB, 5)
    expected = expected_shares(model, match, 3)
    assert sum(expected.values()) == pytest.approx(1)
    draws = 4000
    counts = Counter(texts(draw(model, match=match, wanted=draws, length=3)))
    assert counts.keys() <= expected.keys()
    frequent = {text: share for text, share in expected.items() if share * draws >= 5}
    chi_square = sum((counts[text] - draws * share) ** 2 / (draws * share) for text, share in frequent.items())
    freedom = len(frequent)
    assert chi_square < freedom + 4 * math.sqrt(2 * freedom) + 4


def test_documents_always_match_within_the_length_also_where_the_model_never_ends() -> None:
    model = random_model(VOCAB, 4, end_bias=-50.0)
    for match in (r"(\d\.)*a", ".{2,}", "a|b.{4}1"):
        found = texts(draw(model, match=match, wanted=200, parameters=SamplingParameters(temperature=3.0, top_k=2)))
        assert all(re.fullmatch(match, text) and len(text) <= 6 for text in found)


def test_documents_begin_with_the_prefix_and_that_is_read() -> None:
    model = random_model(VOCAB, 6)
    prefix = VOCAB.encode_text("b1", where="here").tolist()
    documents = draw(model, prefix=prefix)
    assert all(text.startswith("b1") for text in texts(documents))
    assert {text[2:] for text in texts(documents)} != set(texts(draw(model)))


def test_documents_without_an_end_are_left_out_and_counted_and_others_drawn() -> None:
    tally = Tally()
    found = draw(random_model(VOCAB, 7), wanted=100, length=2, tally=tally)
    assert len(found) == 100 == tally.kept
    assert max(len(one.ids) for one in found) == 2
    assert tally.left_out["unfinished"] > 0
    with pytest.raises(RunError, match=r"only 0 of 3 were found, then 1,000 in a row were left out \(in all 1,000 unf"):
        draw(random_model(VOCAB, 7, end_bias=-60.0), wanted=3)


def test_documents_stop_with_a_reason_where_there_are_not_enough() -> None:
    tally = Tally()
    with pytest.raises(RunError, match="only 6 of 7 were found, then 1,000 in a row"):
        draw(random_model(VOCAB, 8), match="[ab]{1,2}", wanted=7, filters=(repeated(),), tally=tally)
    assert tally.kept == 6
    assert tally.left_out["repeated"] >= 1000


def test_documents_are_asked_by_each_filter_in_order() -> None:
    tally = Tally()
    short = Filter("long", lambda one: len(one.ids) < 3)
    found = texts(draw(random_model(VOCAB, 9), wanted=10, filters=(short, repeated()), tally=tally))
    assert max(map(len, found)) < 3
    assert len(set(found)) == 10
    assert set(tally.left_out) <= {"long", "repeated", "unfinished"}
    assert f"{tally.left_out['long']:,} long" in str(tally)


@pytest.mark.parametrize("lanes", [1, 4, 64])
def test_generate_keeps_each_lanes_constraint_while_others_end(lanes: int) -> None:
    constraint = compile_expression("(?:ab){0,4}|1{2,9}", VOCAB)
    how = {"prompt": [], "length": 9, "seed": 1, "samples": 30, "constraint": constraint, "lanes": lanes}
    finished = [
        text_of(VOCAB, one.pending)
        for live in generate(random_model(VOCAB, 3), VOCAB, SamplingParameters(), **how)  # type: ignore[arg-type]
        for one in live
        if one.finished
    ]
    assert len(finished) == 30
    assert len(set(map(len, finished))) > 3
    assert all(re.fullmatch("(?:ab){0,4}|1{2,9}", text) for text in finished)
