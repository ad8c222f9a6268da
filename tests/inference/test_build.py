"""What runs a model: chosen by its objective, and a model of the other objective refused by name."""

from pathlib import Path

import numpy as np
import pytest

from charlstm.errors import RunError
from charlstm.inference import build_directions, build_stepper
from charlstm.settings import ModelSettings
from charlstm.weights import Weights, weight_shapes

NEXT = ModelSettings(cell="gru", embedding_size=5, hidden_size=6, num_layers=2)
CLOZE = ModelSettings(cell="gru", embedding_size=5, hidden_size=6, num_layers=2, bidirectional=True, objective="cloze")


def zeros(settings: ModelSettings) -> Weights:
    return {name: np.zeros(shape, dtype=np.float32) for name, shape in weight_shapes(settings, 11).items()}


def test_build_refuses_a_model_of_the_other_objective_and_names_it() -> None:
    with pytest.raises(RunError, match=r"^runs/3 was trained to fill gaps, .* use `charlstm fill`$"):
        build_stepper(zeros(CLOZE), CLOZE, where=Path("runs/3"))
    with pytest.raises(RunError, match=r"^runs/3 predicts the next character, .* or use `charlstm sample`$"):
        build_directions(zeros(NEXT), NEXT, where=Path("runs/3"))


def test_build_gives_one_stepper_or_two_directions() -> None:
    ids = np.array([3, 4])
    for stepper in (build_stepper(zeros(NEXT), NEXT), *build_directions(zeros(CLOZE), CLOZE)):
        logits, _ = stepper.step(ids, stepper.zero_state(2))
        assert logits.shape == (2, 11)
