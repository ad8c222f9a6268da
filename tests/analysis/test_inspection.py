"""An inspection keeps the gates of a beginning and studies the whole text; one unit is chosen from it to show."""

from dataclasses import replace

import numpy as np
import pytest

from charlstm.analysis import (
    LEAST_STUDIED_CHARS,
    CorrelatedUnit,
    choose_unit,
    describe_unit,
    find_correlated_units,
    gates_picture,
    inspect_text,
    inspection_arrays,
    read_gates,
    text_features,
)
from charlstm.text import start_id

from .small_models import TEXT, H, L, engine_of, run_of, vocab_of, weights_of


def inspected(text=TEXT, *, length=None, correlated=None, **changes):
    vocab = vocab_of(text)
    run, ids = run_of(vocab, **changes), vocab.encode_text(text, where="it")
    inspection = inspect_text(run, weights_of(run.settings.model, vocab.size), ids, length=length or len(text))
    return inspection if correlated is None else replace(inspection, correlated_units=correlated)


def correlated_unit(layer, unit, *, r_held_out, r_found=0.7, r_chance=0.3):
    return CorrelatedUnit("inside quotes", layer, unit, r_found=r_found, r_held_out=r_held_out, r_chance=r_chance)


@pytest.mark.parametrize("length", [50, len(TEXT)])
def test_inspection_keeps_the_beginning_and_studies_all(length):
    inspection, vocab = inspected(length=length), vocab_of(TEXT)
    activity = read_gates(engine_of(vocab.size), vocab.encode_text(TEXT, where="it"), start_id=start_id(vocab))
    assert inspection.activity.shape == (length, L, H)
    for name, values in activity.values.items():
        np.testing.assert_array_equal(inspection.activity.values[name], values[:length])
    assert inspection.text == TEXT[:length]
    assert "".join(inspection.symbols) == TEXT[:length].replace("\n", "↵").replace("\t", "⇥")
    features = text_features(TEXT)
    assert inspection.features.keys() == features.keys()
    assert all(values.tolist() == features[name][:length].tolist() for name, values in inspection.features.items())
    assert inspection.studied_chars == len(TEXT)
    assert list(inspection.correlated_units) == find_correlated_units(activity.values["c"], features)


def test_inspection_chooses_the_best_unit_beyond_chance():
    wrong_sign, by_chance = correlated_unit(0, 1, r_held_out=-0.9), correlated_unit(0, 2, r_held_out=0.2)
    first, second = correlated_unit(0, 3, r_held_out=0.8), correlated_unit(1, 4, r_held_out=-0.6, r_found=-0.5)
    inspection = inspected(correlated=(wrong_sign, by_chance, first, second))
    assert choose_unit(inspection, None, None) == (0, 3)
    assert choose_unit(inspection, 1, None) == (1, 4)
    assert choose_unit(inspection, 0, 2) == (0, 2)
    assert choose_unit(inspection, None, 5) == (L - 1, 5)
    nothing_found = inspected(correlated=(wrong_sign, by_chance))
    assert choose_unit(nothing_found, None, None) == (L - 1, 0)
    assert choose_unit(nothing_found, 0, None) == (0, 0)


def test_inspection_finds_no_units_in_a_text_too_short():
    assert inspected(TEXT[:LEAST_STUDIED_CHARS]).correlated_units
    short = inspected(TEXT[: LEAST_STUDIED_CHARS - 1])
    assert short.correlated_units == ()
    assert choose_unit(short, None, None) == (L - 1, 0)


def test_inspection_describes_a_unit():
    inspection = inspected(correlated=(correlated_unit(1, 4, r_held_out=0.612), correlated_unit(1, 5, r_held_out=0.1)))
    assert describe_unit(inspection, layer=1, unit=4) == (
        "layer 1, unit 4: cell state, correlated with “inside quotes”: r = +0.61 on held-out text "
        "(+0.70 where it was found, 0.30 by chance)"
    )
    assert describe_unit(inspection, layer=1, unit=5) == "layer 1, unit 5: cell state"
    assert describe_unit(inspected(cell="gru"), layer=0, unit=6).startswith("layer 0, unit 6: hidden state")


def test_inspection_arrays_are_those_of_the_activity():
    inspection = inspected()
    arrays, activity = inspection_arrays(inspection), inspection.activity
    assert arrays["text"].item() == TEXT
    assert set(arrays) == {"ids", "text", "surprisal", "guess_ids", "guess_probs", *activity.values}
    for name in ("ids", "surprisal", "guess_ids", "guess_probs"):
        assert arrays[name] is getattr(activity, name)
    assert all(arrays[name] is values for name, values in activity.values.items())


@pytest.mark.parametrize(("cell", "count"), [("lstm", 1), ("rnn", 1000)])
def test_inspection_draws_a_picture(cell, count):
    pytest.importorskip("matplotlib")
    inspection = inspected("one\n漢$x$ two" * 9, cell=cell)
    picture = gates_picture(inspection, layer=1, unit=3, count=count, title="a $title$")
    assert picture.startswith(b"\x89PNG")
