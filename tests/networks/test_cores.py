"""Cores: initial weights, dropout masks, precision, and what torch's kernel and the hand-written scan share.

What every core does with text is in `laws`, which `test_cells` runs.
"""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from charlstm.cells import CELLS
from charlstm.networks.cores import BUILTIN_KERNELS, NO_MASKS, Core, State, build_core, draw_mask, in_one_buffer
from charlstm.settings import ModelSettings

from ..laws.subjects import SUBJECTS, E, H, L, random_core, random_text

torch.set_num_threads(1)

FORGET_BIAS = 1.5


def fresh_core(cell: str, *, layers: int = L, seed: int = 1) -> Core:
    """A core as training starts with it."""
    core = build_core(ModelSettings(cell=cell, embedding_size=E, hidden_size=H, num_layers=layers))
    core.initialise(forget_bias=FORGET_BIAS, generator=torch.Generator().manual_seed(seed))
    return core


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_the_recurrent_weights_of_every_gate_start_orthogonal(cell: str) -> None:
    core = fresh_core(cell)
    for layer in range(L):
        for block in core.layer_weights(layer)["weight_hh"].split(H):
            assert (block @ block.T - torch.eye(H)).abs().max() < 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_the_input_weights_of_every_gate_start_within_xaviers_bound(cell: str) -> None:
    core = fresh_core(cell)
    for layer, input_size in enumerate((E, H)):
        bound = math.sqrt(6 / (input_size + H))
        for block in core.layer_weights(layer)["weight_ih"].split(H):
            assert 0.7 * bound < block.abs().max() <= bound


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_the_forget_bias_is_in_one_bias_only_and_the_rest_starts_at_zero(cell: str) -> None:
    core = fresh_core(cell)
    for layer in range(L):
        weights = core.layer_weights(layer)
        biases = zip(CELLS[cell].gates, weights["bias_ih"].split(H), weights["bias_hh"].split(H), strict=True)
        for gate, of_input, of_hidden in biases:
            assert torch.equal(of_input + of_hidden, torch.full((H,), FORGET_BIAS if gate == "f" else 0.0))
            assert not of_hidden.any()
        assert not weights.get("weight_ch", torch.zeros(1)).any()


def test_recurrent_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (fresh_core("lstm", seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight_hh_l0"], other["weight_hh_l0"])
    assert not torch.equal(first["weight_hh_l0"], first["weight_hh_l1"])


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_auto_takes_torchs_kernel_where_it_has_the_cell(cell: str) -> None:
    by_settings = {kernel: build_core(ModelSettings(cell=cell, kernel=kernel)) for kernel in ("auto", "unrolled")}
    scans = {kernel: core.scan.__qualname__.split(".")[0] for kernel, core in by_settings.items()}
    assert scans == {
        "auto": "builtin_scan" if cell in BUILTIN_KERNELS else "unrolled_scan",
        "unrolled": "unrolled_scan",
    }


def test_recurrent_layers_past_the_tenth_keep_their_own_weights() -> None:
    core = fresh_core("lstm", layers=12)
    found = [id(weight) for layer in range(12) for weight in core.layer_weights(layer).values()]
    assert found == [id(weight) for weight in core.parameters()]


def test_recurrent_masks_are_one_a_window_for_the_outputs_and_recurrent_weights_of_each_layer() -> None:
    lanes, core, generator = 500, fresh_core("lstm", layers=3), torch.Generator().manual_seed(1)
    before, core.dropout = generator.get_state(), 0.0
    assert core.draw_masks(lanes, generator) == NO_MASKS
    assert torch.equal(generator.get_state(), before)
    core.dropout, core.recurrent_dropout = 0.25, 0.5
    masks, again = (core.draw_masks(lanes, torch.Generator().manual_seed(1)) for _ in range(2))
    assert [mask.shape for mask in masks.outputs] == [(lanes, H)] * 3
    assert [mask.shape for mask in masks.recurrent] == [(4 * H, H)] * 3
    drawn = [*masks.outputs, *masks.recurrent]
    assert all(map(torch.equal, drawn, [*again.outputs, *again.recurrent]))
    assert not any(torch.equal(one, other) for one, other in pairwise(drawn) if one.shape == other.shape)


@pytest.mark.parametrize("dropout", [0.001, 0.1, 0.25, 0.5, 0.99])
def test_recurrent_masks_keep_the_mean(dropout: float) -> None:
    mask = draw_mask((300, 401), dropout, torch.Generator().manual_seed(1))
    kept = mask != 0
    share = 1 - round(256 * dropout) / 256
    assert mask.dtype == torch.float32
    assert torch.equal(mask[kept], torch.full_like(mask[kept], 1 / share))
    assert kept.float().mean().item() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / mask.numel()))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_recurrent_without_autograd_the_outputs_are_the_same(subject: str) -> None:
    core, (x, state) = random_core(SUBJECTS[subject]).float(), random_text(SUBJECTS[subject])
    x, state = x.float(), tuple(part.float() for part in state)
    outputs, after = core(x, state)
    with torch.no_grad():
        plain, plain_after = core(x, state)
    with torch.inference_mode():
        inferred, _ = core(x, state)
    assert outputs.requires_grad
    assert not plain.requires_grad
    for found, expected in zip((plain, inferred, *plain_after), (outputs, outputs, *after), strict=True):
        assert (found - expected).abs().max() < 1e-6


@pytest.mark.parametrize("subject", SUBJECTS)
def test_recurrent_the_state_given_is_left_as_it_was(subject: str) -> None:
    core, (x, state) = random_core(SUBJECTS[subject]), random_text(SUBJECTS[subject])
    copies = [part.clone() for part in (x, *state)]
    core(x, state)
    assert all(torch.equal(part, copy) for part, copy in zip((x, *state), copies, strict=True))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_recurrent_bf16_runs_and_is_close_to_fp32(subject: str) -> None:
    core, (x, state) = random_core(SUBJECTS[subject]).float(), random_text(SUBJECTS[subject])
    x, state = x.float(), tuple(part.float() for part in state)

    def gradients(dtype: torch.dtype) -> tuple[Tensor, State, Tensor]:
        outputs, after = core(x.to(dtype), state)
        outputs.float().square().mean().backward()
        gradient = core.get_parameter("weight_hh_l0").grad
        assert gradient is not None
        core.zero_grad()
        return outputs, after, gradient

    outputs, after, gradient = gradients(torch.float32)
    try:
        rough, rough_after, rough_gradient = gradients(torch.bfloat16)
    except RuntimeError as error:
        pytest.skip(f"this processor refuses bf16: {error}")
    assert rough.dtype == torch.bfloat16
    assert all(part.dtype == torch.float32 for part in rough_after)  # carried in full
    assert gradient.dtype == rough_gradient.dtype == torch.float32
    difference = max(
        (a.float() - b).abs().max().item() for a, b in zip((rough, *rough_after), (outputs, *after), strict=True)
    )
    assert 0 < difference < 0.1
    assert (rough_gradient - gradient).norm() < 0.1 * gradient.norm()


def test_recurrent_weights_in_one_buffer_lie_in_order_and_have_the_same_gradients() -> None:
    shapes = [(4 * H, E), (4 * H, H), (4 * H,), (4 * H,)]
    separate = [torch.randn(shape, requires_grad=True) for shape in shapes]
    together = in_one_buffer(separate)
    storage, at = together[0].untyped_storage().data_ptr(), 0
    for tensor, view in zip(separate, together, strict=True):
        assert torch.equal(tensor, view)
        assert (view.untyped_storage().data_ptr(), view.storage_offset()) == (storage, at)
        at += view.numel()
    x, before = torch.randn(3, 5, E), (torch.randn(1, 5, H), torch.randn(1, 5, H))
    found = []
    for weights in (separate, together):
        outputs, *_ = torch.lstm(x, before, weights, True, 1, 0.0, True, False, False)  # type: ignore[call-overload]
        found.append(torch.autograd.grad(outputs.square().sum(), separate))
    assert all(map(torch.equal, *found))
