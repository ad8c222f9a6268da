"""The engine: the trained model without torch, stream by stream."""

from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from numpy.typing import NDArray

from charlstm.cells import CELLS
from charlstm.errors import RunError
from charlstm.inference import Engine
from charlstm.networks import OBJECTIVES, CharLM
from charlstm.settings import ModelSettings
from charlstm.weights import check_weights, weight_shapes

from ..laws.subjects import B, E, H, L, T, V

torch.set_num_threads(1)

SETTINGS = {cell: ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L) for cell in CELLS}


def random_model(settings: ModelSettings) -> CharLM:
    model = CharLM(V, settings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5, generator=generator)
    return model


def exported(model: torch.nn.Module) -> dict[str, NDArray[Any]]:
    return {name: weight.numpy() for name, weight in model.state_dict().items()}


def read(engine: Engine, ids: NDArray[Any]) -> tuple[NDArray[Any], Any]:
    """All logits (T, B, V) of ids (T, B), and the last state."""
    state, logits = engine.zero_state(ids.shape[1]), []
    for step in ids:
        found, state = engine.step(step, state)
        logits.append(found)
    return np.stack(logits), state


IDS = np.random.default_rng(1).integers(V, size=(T, B))


@pytest.mark.parametrize("skip_connections", [True, False])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-12)])
def test_engine_gives_the_logits_and_state_of_the_model(
    cell: str, skip_connections: bool, dtype: torch.dtype, tolerance: float
) -> None:
    settings = replace(SETTINGS[cell], skip_connections=skip_connections)
    model = random_model(settings).to(dtype)
    with torch.no_grad():
        expected, expected_state = model(torch.from_numpy(IDS), dtype=dtype)
    logits, state = read(Engine(exported(model), settings), IDS)
    for found, wanted in zip((logits, *state), (expected, *expected_state), strict=True):
        assert found.dtype == wanted.numpy().dtype
        assert np.abs(found - wanted.numpy()).max() <= tolerance


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("skip_connections", [True, False])
@pytest.mark.parametrize("objective", ["next", "cloze"])
def test_engine_knows_every_weight_of_the_model_with_its_shape(
    cell: str, objective: str, skip_connections: bool
) -> None:
    settings = ModelSettings(
        cell=cell,
        objective=objective,
        bidirectional=objective == "cloze",
        embedding_size=E,
        hidden_size=H,
        num_layers=3,
        skip_connections=skip_connections,
    )
    weights = exported(OBJECTIVES[settings.objective].build_model(V, settings))
    assert weight_shapes(settings, V) == {name: array.shape for name, array in weights.items()}
    check_weights(weights, settings, V, where="model.safetensors")


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("core.weight_hh_l1", lambda _: None, "the weight core.weight_hh_l1 is in one and not in the other"),
        ("core.weight_ch_l0", lambda _: np.zeros(3, np.float32), "the weight core.weight_ch_l0 is in one"),
        ("core.bias_hh_l0", lambda w: w[:-1], "core.bias_hh_l0 is float32 [23], but must be float32 [24]"),
        ("output.weight", lambda w: w.T, "output.weight is float32 [12, 11], but must be float32 [11, 12]"),
        ("output.bias", lambda w: w.astype(np.float64), "output.bias is float64 [11], but must be float32 [11]"),
        ("embedding.weight", lambda w: w * np.float32("nan"), "not finite in embedding.weight"),
        ("output.bias", lambda w: w + np.float32("inf"), "not finite in output.bias"),
    ],
)
def test_engine_weights_that_do_not_fit_are_refused_in_one_sentence(name: str, change: Any, says: str) -> None:
    weights = exported(random_model(SETTINGS["lstm"]))
    changed = change(weights.get(name))
    weights = {key: array for key, array in {**weights, name: changed}.items() if array is not None}
    with pytest.raises(RunError) as caught:
        check_weights(weights, SETTINGS["lstm"], V, where="runs/1/model.safetensors")
    assert says in str(caught.value)
    assert str(caught.value).startswith("runs/1/model.safetensors ")
    assert "\n" not in str(caught.value)
