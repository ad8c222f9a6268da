"""Assembly: what a machine is measured by is the model that is trained."""

from typing import Any

import pytest
import torch

from charlstm.networks import OBJECTIVES
from charlstm.settings import ModelSettings
from charlstm.training.assembly import work_of
from charlstm.weights import training_flop

V = 11
OTHERS: list[dict[str, Any]] = [{"cell": "gru"}, {"objective": "cloze"}, {"kernel": "unrolled"}, {"num_layers": 3}]


@pytest.mark.parametrize("changes", [{}, *OTHERS, {"dropout": 0.5, "recurrent_dropout": 0.5}])
def test_assembly_a_pass_takes_the_gradient_of_every_weight_of_the_model(changes: dict[str, Any]) -> None:
    settings = ModelSettings(hidden_size=7, embedding_size=5, **changes)
    work = work_of(settings, V)
    gradients: Any = work.build_pass(torch.device("cpu"))(3, 2, torch.float32)
    weights = OBJECTIVES[settings.objective].build_model(V, settings).parameters()
    assert [gradient.shape for gradient in gradients] == [weight.shape for weight in weights]
    assert work.flop_per_char == training_flop(settings, V)


def test_assembly_models_of_other_speeds_have_other_names() -> None:
    names = {work_of(ModelSettings(**changes), V).name for changes in [{}, *OTHERS, {"hidden_size": 7}]}
    assert len(names) == 2 + len(OTHERS)
