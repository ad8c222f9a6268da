"""Automatic settings: chosen from the text, the time and the speed, and never over what was given."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from charlstm.settings import Settings, override_settings
from charlstm.text import Lanes, split_ids
from charlstm.training.automatic import HIDDEN_SIZES, MOST_DROPOUT, MOST_PASSES, MOST_VALIDATIONS, choose_settings
from charlstm.training.schedule import highest_rate
from charlstm.training.short_texts import fit_batch

CHARS = st.integers(1_000, 10**9)
SPEEDS = st.floats(1e9, 1e15)
MINUTES = st.floats(0.1, 10_000)


def chosen(chars: int, speed: float, minutes: float | None, *given_values: str) -> Settings:
    settings = Settings()
    settings = replace(settings, training=replace(settings.training, max_minutes=minutes))
    settings = override_settings(
        settings, [*given_values, "training.max_epochs=3"] if minutes is None else given_values
    )
    paths = {value.partition("=")[0] for value in given_values} | {"training.max_minutes"}
    return choose_settings(settings, paths, chars=chars, vocab_size=65, measure_speed=lambda _lanes: speed)[0]


@given(CHARS, SPEEDS, MINUTES)
def test_automatic_settings_are_valid_and_train_on_any_text(chars: int, speed: float, minutes: float) -> None:
    settings = chosen(chars, speed, minutes)
    assert override_settings(settings, ()) == settings
    assert settings.model.hidden_size in HIDDEN_SIZES
    assert 0 <= settings.model.recurrent_dropout <= settings.model.dropout <= MOST_DROPOUT
    training = settings.training
    epoch = Lanes(range(chars), training.batch_size, training.sequence_length).steps_per_epoch  # type: ignore[arg-type]
    assert training.validate_every_steps <= MOST_PASSES * (epoch + 1) / 5  # at least five times


@pytest.mark.parametrize("given_value", ["data.unit=char", "training.batch_size=512", "training.sequence_length=2048"])
@pytest.mark.parametrize("chars", [100, 300, 1_000, 10_000])
def test_a_short_text_is_validated_on_as_rarely_as_others(chars: int, given_value: str) -> None:
    settings = chosen(chars, 1e15, 10_000.0, given_value)
    train = split_ids(np.zeros(chars, np.uint8), settings.data.split).train
    training, _ = fit_batch(settings.training, len(train))
    steps = MOST_PASSES * Lanes(train, training.batch_size, training.sequence_length).steps_per_epoch
    assert steps / training.validate_every_steps <= MOST_VALIDATIONS + 1


@given(CHARS, st.lists(SPEEDS, min_size=2, max_size=2).map(sorted))
def test_more_operations_never_make_a_smaller_model(chars: int, speeds: list[float]) -> None:
    slow, fast = (chosen(chars, speed, 1.0) for speed in speeds)
    assert slow.model.hidden_size <= fast.model.hidden_size


def test_longer_texts_need_less_dropout_and_allow_larger_models() -> None:
    sizes = [chosen(chars, 2e11, 10.0).model for chars in (10**4, 10**5, 10**6, 10**7, 10**8)]
    assert all(shorter.dropout >= longer.dropout for shorter, longer in pairwise(sizes))
    assert all(shorter.hidden_size <= longer.hidden_size for shorter, longer in pairwise(sizes))
    assert sizes[0].dropout > sizes[-1].dropout == 0


@pytest.mark.parametrize(
    "value", ["model.hidden_size=77", "model.dropout=0.07", "training.batch_size=9", "training.learning_rate=0.5"]
)
def test_what_was_given_stays(value: str) -> None:
    free, fixed = chosen(10**6, 2e11, 1.0), chosen(10**6, 2e11, 1.0, value)
    section, name = value.partition("=")[0].split(".")
    assert str(asdict(getattr(fixed, section))[name]) == value.partition("=")[2]
    others = asdict(fixed.training) | asdict(fixed.model)
    expected = asdict(free.training) | asdict(free.model)
    assert name not in {key for key in others if others[key] == expected[key]}


def test_of_a_long_text_little_validates_and_validating_takes_little_of_the_time() -> None:
    for chars in (10**6, 10**7, 10**8):
        settings = chosen(chars, 1e11, 1.0)
        train, validated, test = settings.data.split
        assert (train + validated, test) == (pytest.approx(1.0), 0.0)
        assert validated * chars == pytest.approx(min(250_000, chars / 10), rel=0.05)
        read_between = settings.training.validate_every_steps * settings.training.batch_size * 64
        assert validated * chars / 3 < 0.11 * read_between
    assert chosen(10**8, 1e11, 1.0, "data.split=[0.8,0.1,0.1]").data.split == (0.8, 0.1, 0.1)


def test_what_was_given_is_reckoned_with() -> None:
    batch = ("training.max_steps=1000", "training.batch_size=512", "training.sequence_length=32")
    settings = chosen(10**6, 2e11, 10_000.0, *batch)
    passes = 1000 * 512 * 32 / 9e5
    assert settings.model.dropout == pytest.approx(0.1 * math.log2(passes / 3), abs=0.01)
    assert settings.training.validate_every_steps == 100
    assert chosen(10**6, 2e11, 1.0, "model.embedding_size=1000").model.hidden_size < 192
    assert chosen(10**6, 0.0, 1.0).model.hidden_size == HIDDEN_SIZES[0]


@pytest.mark.parametrize("unit", ["char", "byte"])
def test_what_is_told_counts_what_the_split_gives_to_training(unit: str) -> None:
    settings = override_settings(Settings(), [f"data.unit={unit}", "training.max_epochs=1"])
    own = {"training.max_epochs"}
    _, told = choose_settings(settings, own, chars=4193, vocab_size=65, measure_speed=lambda _: 1e15)
    train = split_ids(np.zeros(4193, dtype=np.uint8), settings.data.split).train
    assert f"for about 1.0 passes over {len(train):,} {unit}s, " in told


def test_without_minutes_the_passes_that_were_asked_for_decide() -> None:
    settings = chosen(10**6, 2e11, None)
    assert settings.training.max_epochs == 3
    assert settings.model.dropout == 0


def test_a_rate_that_is_left_to_the_trainer_is_the_one_that_is_chosen() -> None:
    left, chosen_one = (chosen(10**5, 2e11, 1.0, *given) for given in (["training.learning_rate=auto"], []))
    assert left.model == chosen_one.model
    assert highest_rate(left.training, left.model.hidden_size) == chosen_one.training.learning_rate > 0.02


def test_another_optimiser_keeps_the_rate_of_its_own() -> None:
    settings = chosen(10**6, 2e11, 1.0, "training.optimizer=adamw").training
    assert settings.optimizer == "adamw"
    assert settings.learning_rate == 0.016 < chosen(10**6, 2e11, 1.0).training.learning_rate
