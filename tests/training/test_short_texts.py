"""Short texts: a batch fits into any text of two characters, and one that fits is left as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charlstm.runs import Progress
from charlstm.settings import DataSettings, ModelSettings, TrainingSettings
from charlstm.text import DocumentCounts, Lanes
from charlstm.training.short_texts import (
    LEAST_BATCHES,
    TURNED_NATS,
    duplicates_advice,
    fit_batch,
    fit_document_batch,
    overfitting_advice,
    size_advice,
    validation_advice,
)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(2, 20_000))
def test_short_texts_get_a_batch_that_fits_and_leaves_little_out(lanes: int, window: int, chars: int) -> None:
    settings = TrainingSettings(batch_size=lanes, sequence_length=window)
    fitted, told = fit_batch(settings, chars)
    batches = Lanes(range(chars), fitted.batch_size, fitted.sequence_length)  # type: ignore[arg-type]
    if lanes * window < chars:
        assert fitted == settings
        assert told == []
        return
    assert len(told) == 1
    assert str(fitted.batch_size) in told[0]
    assert fitted.batch_size <= lanes
    assert fitted.sequence_length <= window
    assert (
        batches.steps_per_epoch * batches.chars_per_step >= (chars - fitted.batch_size) * 0.75 or chars <= LEAST_BATCHES
    )


@pytest.mark.parametrize(
    ("hidden_size", "dropout", "chars", "advice"),
    [
        (256, 0.0, 9_000, "with model.hidden_size=128 or less and model.dropout=0.2 or more"),
        (256, 0.2, 9_000, "with model.hidden_size=128 or less"),
        (128, 0.1, 9_000, "with model.dropout=0.2 or more"),
        (128, 0.2, 9_000, None),
        (256, 0.0, 300_000, None),
    ],
)
def test_large_models_of_short_texts_get_the_advice_not_yet_followed(
    hidden_size: int, dropout: float, chars: int, advice: str | None
) -> None:
    told = size_advice(ModelSettings(hidden_size=hidden_size, dropout=dropout), 1_000_000, chars)
    assert [message.partition("better ")[2] for message in told] == ([] if advice is None else [advice])


@pytest.mark.parametrize(
    ("minutes", "chars", "advised"), [(1, 1_200_000, True), (10, 1_200_000, False), (None, 10**9, False)]
)
def test_much_validation_in_few_minutes_gets_advice(minutes: float | None, chars: int, advised: bool) -> None:
    assert bool(validation_advice(TrainingSettings(max_minutes=minutes), chars)) == advised


@pytest.mark.parametrize(
    ("since_best", "risen", "advised"),
    [(2, 2 * TURNED_NATS, True), (1, 9.0, False), (2, TURNED_NATS / 2, False), (0, 0.0, False)],
)
def test_overfitting_is_told_with_the_step_at_which_validation_turned(
    since_best: int, risen: float, advised: bool
) -> None:
    progress = Progress(step=900, best_step=300, best_loss=1.5, validations_since_best=since_best)
    told = overfitting_advice(ModelSettings(dropout=0.25), progress, 1.5 + risen)
    assert bool(told) == advised
    assert all("step 300 of 900" in message and "0.25" in message for message in told)
    assert overfitting_advice(ModelSettings(), progress, None) == []


@pytest.mark.parametrize(("chars", "lanes"), [(100_000, 64), (8192 * 4, 64), (8192 * 4 - 1, 32), (900, 1), (1, 1)])
def test_documents_too_few_for_four_batches_get_fewer_lanes(chars: int, lanes: int) -> None:
    fitted, told = fit_document_batch(TrainingSettings(batch_size=64, sequence_length=128), chars)
    assert (fitted.batch_size, fitted.sequence_length) == (lanes, 128)
    assert bool(told) == (lanes < 64)


@pytest.mark.parametrize(
    ("duplicates", "shared", "deduplicate", "told"),
    [
        (0, 0, "keep", []),
        (
            3,
            0,
            "keep",
            ["3 of the documents repeat earlier ones: they stay, all equal ones in one part of the split", "=drop"],
        ),
        (3, 2, "keep", ["they stay, 2 of them to validate or test on though they are trained on", "=drop"]),
        (3, 0, "drop", ["3 of the documents repeat earlier ones: they are left out"]),
    ],
)
def test_duplicates_are_told(duplicates: int, shared: int, deduplicate: str, told: list[str]) -> None:
    data = DataSettings(deduplicate=deduplicate)  # type: ignore[arg-type]
    found = duplicates_advice(data, DocumentCounts(9, 1, 1, duplicates, shared))
    assert len(found) == bool(told)
    assert all(part in found[0] for part in told)
    assert ("=drop" in "".join(found)) == ("=drop" in told)
