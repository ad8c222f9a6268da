"""Muon's steps: the singular values of a gradient are made alike, its singular vectors kept."""

import numpy as np
import pytest
import torch
from torch import nn

from charlstm.networks import CharLM
from charlstm.settings import ModelSettings, TrainingSettings
from charlstm.training.optimizers import (
    ITERATIONS,
    MOMENTUM,
    NEWTON_SCHULZ,
    STEP_RMS,
    Muon,
    build_optimizers,
    orthogonalise,
)

from .trainers import one_by_one


def random_matrix(rows: int, columns: int, seed: int = 1) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, columns)))


@pytest.mark.parametrize(("rows", "columns"), [(12, 12), (40, 10), (3, 20), (7, 1)])
def test_orthogonalise_changes_the_singular_values_alone_of_each_matrix(rows: int, columns: int) -> None:
    matrices = torch.stack([scale * random_matrix(rows, columns, seed) for seed, scale in ((1, 1.0), (2, 100.0))])
    found = orthogonalise(matrices, torch.float64)
    for matrix, direction in zip(matrices, found, strict=True):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        values /= matrix.norm()
        a, b, c = NEWTON_SCHULZ
        for _ in range(ITERATIONS):
            values = a * values + b * values**3 + c * values**5
        assert torch.allclose(direction, left @ torch.diag(values) @ right, atol=1e-12)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    left, _, right = torch.linalg.svd(random_matrix(60, 20), full_matrices=False)
    values = torch.logspace(0, -1.5, 20, dtype=torch.float64)  # down to 0.03 of the largest, 0.016 of the norm
    found = torch.linalg.svdvals(orthogonalise((left @ torch.diag(values) @ right)[None], torch.float64))
    assert 0.6 < found.min() < found.max() < 1.25


def test_orthogonalise_of_zeros_is_zeros() -> None:
    assert not orthogonalise(torch.zeros(2, 3, 5), torch.float32).any()


@pytest.mark.parametrize("exponent", range(-45, 0, 5))
def test_orthogonalise_of_any_small_gradient_is_bounded(exponent: int) -> None:
    gradient = (10.0**exponent * random_matrix(64, 64)).float()
    found = orthogonalise(gradient[None], torch.float32)
    assert torch.linalg.matrix_norm(found, 2) < 1.25  # and finite


def test_muon_takes_any_rate_and_leaves_it_to_the_loss_to_say_what_came_of_it() -> None:
    matrix = nn.Parameter(torch.zeros(4, 4))
    matrix.grad = random_matrix(4, 4).float()
    Muon([matrix], gates=1, lr=1e300, weight_decay=0.1, dtype=torch.float32, map_tensors=one_by_one).step()
    assert not matrix.abs().max() < 1e30  # or not a number


def test_muon_moves_input_and_recurrent_matrices_alone() -> None:
    model = CharLM(11, ModelSettings(embedding_size=5, hidden_size=7, num_layers=2, cell="peephole-full"))
    optimizers = build_optimizers(
        model, TrainingSettings(optimizer="muon"), dtype=torch.float32, map_tensors=one_by_one
    )
    moved = {name for name, p in model.named_parameters() if list(optimizers.kept_shapes(p)) == ["momentum"]}
    assert moved == {f"core.weight_{kind}_l{layer}" for kind in ("ih", "hh") for layer in (0, 1)}


def test_muon_step_is_as_long_as_the_rate_says_whatever_the_gradient() -> None:
    lengths = []
    for scale in (1e-6, 1.0, 1e3):
        matrix = nn.Parameter(torch.zeros(400, 100, dtype=torch.float64))
        matrix.grad = scale * random_matrix(400, 100)
        Muon([matrix], gates=4, lr=0.5, weight_decay=0.3, dtype=torch.float64, map_tensors=one_by_one).step()
        lengths.append(matrix.square().mean().sqrt().item())
    assert lengths == pytest.approx([lengths[0]] * 3, rel=1e-9)
    assert 0.7 * 0.5 * STEP_RMS < lengths[0] < 1.25 * 0.5 * STEP_RMS


def test_muon_follows_nesterovs_momentum_and_decays_the_weights() -> None:
    begin, gradients = random_matrix(12, 4), [random_matrix(12, 4, seed) for seed in (2, 3, 4)]
    matrix = nn.Parameter(begin.clone())
    muon = Muon([matrix], gates=2, lr=0.1, weight_decay=0.5, dtype=torch.float64, map_tensors=one_by_one)
    expected, momentum = begin.clone(), torch.zeros(12, 4, dtype=torch.float64)
    for gradient in gradients:
        matrix.grad = gradient.clone()
        muon.step()
        momentum = MOMENTUM * momentum + gradient  # as in the paper: a multiple of the mean
        aim = gradient + MOMENTUM * momentum
        direction = torch.cat([*orthogonalise(torch.stack([aim[:6], aim[6:]]), torch.float64)])
        expected = (1 - 0.1 * 0.5) * expected - 0.1 * STEP_RMS * 6**0.5 * direction
        assert torch.allclose(matrix, expected, atol=1e-12)
