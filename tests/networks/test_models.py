"""The model: embedding, core, output layer, and where training starts."""

import math

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch.nn import functional as F

from charlstm.cells import CELLS
from charlstm.errors import RunError
from charlstm.networks import OBJECTIVES, CharLM, inherit_weights
from charlstm.networks.cores import Masks
from charlstm.settings import DataSettings, ModelSettings
from charlstm.text.vocabulary import build_vocab, shared_ids
from charlstm.weights import count_weights

from ..laws.subjects import B, E, H, L, T, V

torch.set_num_threads(1)

SETTINGS = {cell: ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=L) for cell in CELLS}


def random_ids(vocab_size: int = V, *, steps: int = T, lanes: int = B) -> torch.Tensor:
    return torch.randint(vocab_size, (steps, lanes), generator=torch.Generator().manual_seed(1))


def double_model(cell: str, *, skip_connections: bool = True) -> CharLM:
    """A model in float64 whose weights are all random, zero biases and peepholes included."""
    model = CharLM(V, replace(SETTINGS[cell], skip_connections=skip_connections)).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(std=0.5, generator=generator)
    return model


@pytest.mark.parametrize("skip_connections", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_model_is_embedding_then_core_then_linear(cell: str, skip_connections: bool) -> None:
    model, ids = double_model(cell, skip_connections=skip_connections), random_ids()
    logits, state = model(ids, dtype=torch.float64)
    hidden, after = model.core(model.embedding.weight[ids])
    assert logits.shape == (T, B, V)
    assert (logits - (hidden @ model.output.weight.T + model.output.bias)).abs().max() < 1e-12
    assert [part.shape for part in state] == [(L, B, H)] * len(CELLS[cell].state)
    assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("vocab_size", [2, 65])
def test_model_first_loss_is_that_of_a_uniform_guess(cell: str, vocab_size: int) -> None:
    model = CharLM(vocab_size, ModelSettings(cell=cell))
    ids = random_ids(vocab_size, steps=33, lanes=16)
    logits, _ = model(ids[:-1])
    assert F.cross_entropy(logits.flatten(0, 1), ids[1:].flatten()).item() == pytest.approx(
        math.log(vocab_size), abs=0.02
    )


@pytest.mark.parametrize("cell", CELLS)
def test_model_every_parameter_learns_from_the_first_step(cell: str) -> None:
    """Peepholes too: they start at zero, and their gradients do not."""
    model, ids = CharLM(V, SETTINGS[cell]), random_ids()
    logits, _ = model(ids[:-1])
    F.cross_entropy(logits.flatten(0, 1), ids[1:].flatten()).backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in model.parameters())


@pytest.mark.parametrize("kernel", ["builtin", "unrolled"])
def test_model_weights_are_of_the_seed_and_not_of_the_kernel_or_of_torchs_own_generator(kernel: str) -> None:
    torch.manual_seed(5)
    auto = CharLM(V, SETTINGS["lstm"], seed=3).state_dict()
    torch.manual_seed(6)
    other = CharLM(V, ModelSettings(kernel=kernel, embedding_size=E, hidden_size=H, num_layers=L), seed=3).state_dict()
    assert all(torch.equal(auto[name], other[name]) for name in auto)
    assert not torch.equal(
        auto["embedding.weight"], CharLM(V, SETTINGS["lstm"], seed=4).state_dict()["embedding.weight"]
    )


def test_model_dropout_acts_by_the_masks_alone() -> None:
    model, ids = double_model("lstm").train(), random_ids()
    plain, _ = model(ids, dtype=torch.float64)
    again, _ = model(ids, dtype=torch.float64)
    ones, _ = model(ids, masks=Masks([torch.ones(B, H)] * 2, [torch.ones(4 * H, H)] * 2), dtype=torch.float64)
    model.core.dropout = 0.5
    drawn, _ = model(ids, masks=model.core.draw_masks(B, torch.Generator().manual_seed(1)), dtype=torch.float64)
    assert torch.equal(plain, again)
    assert torch.equal(plain, ones)
    assert not torch.equal(plain, drawn)


@pytest.mark.parametrize("cell", CELLS)
def test_model_logits_of_bf16_products_are_float32_and_close(cell: str) -> None:
    model, ids = double_model(cell).float(), random_ids()
    expected, _ = model(ids)
    try:
        logits, _ = model(ids, dtype=torch.bfloat16)
    except RuntimeError as error:
        pytest.skip(f"this processor refuses bf16: {error}")
    assert logits.dtype == torch.float32
    assert 0 < (logits - expected).abs().max() < 0.2


def test_model_parameters_are_counted() -> None:
    gates = 4 * H
    for skip_connections, read in ((True, L * H), (False, H)):
        settings = replace(SETTINGS["lstm"], skip_connections=skip_connections)
        expected = V * E + gates * (E + H + 2) + gates * (H + H + 2) + V * (read + 1)
        built = OBJECTIVES["next"].build_model(V, settings)
        assert count_weights(settings, V) == sum(p.numel() for p in built.parameters()) == expected


@pytest.mark.parametrize("skip_connections", [True, False])
def test_model_inherits_by_character_and_leaves_new_rows_as_they_were_drawn(skip_connections: bool) -> None:
    chosen = ModelSettings(embedding_size=5, hidden_size=7, num_layers=2, skip_connections=skip_connections)
    older = build_vocab(np.bincount(list(b"bcd")), DataSettings(unknown="replace"))
    newer = build_vocab(np.bincount(list(b"abdz")), DataSettings(unknown="replace"))
    theirs = OBJECTIVES["next"].build_model(older.size, chosen, seed=1)
    ours, drawn = (OBJECTIVES["next"].build_model(newer.size, chosen, seed=2) for _ in range(2))
    rows, their_rows = shared_ids(newer, older)
    assert [newer.symbol(row) for row in rows] == [older.symbol(row) for row in their_rows] == ["b", "d", "\ufffd"]
    inherit_weights(ours, {name: p.detach().numpy() for name, p in theirs.named_parameters()}, rows, their_rows)
    for name, parameter in ours.named_parameters():
        if name.startswith("core."):
            assert torch.equal(parameter, theirs.get_parameter(name))
            continue
        assert torch.equal(parameter[rows], theirs.get_parameter(name)[their_rows])
        new = [row for row in range(newer.size) if row not in rows]
        assert torch.equal(parameter[new], drawn.get_parameter(name)[new])


def test_model_does_not_match_characters_with_bytes() -> None:
    chars = build_vocab(np.bincount(list(b"abc")), DataSettings())
    bytes_ = build_vocab(np.bincount(list(b"abc")), DataSettings(unit="byte"))
    with pytest.raises(RunError, match=r"one vocabulary is of chars and the other of bytes"):
        shared_ids(chars, bytes_)
