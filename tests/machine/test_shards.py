"""Workers: lanes computed side by side come out as if computed together, and in order."""

import threading

import numpy as np
import pytest
import torch

from charlstm.evaluation.evaluate import evaluate
from charlstm.machine.runtime import Runtime
from charlstm.machine.workers import LEAST_LANES, Workers, count_workers
from charlstm.networks.models import build_model
from charlstm.settings import ModelSettings, TrainingSettings
from charlstm.training.trainer import Trainer

TEXT = np.random.default_rng(1).integers(9, size=20_000)


@pytest.fixture(autouse=True)
def threads_as_they_were() -> object:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
@pytest.mark.parametrize("lanes", [1, 7, 16, 17, 50])
def test_workers_take_every_lane_once_and_in_order(threads: int, lanes: int) -> None:
    parts = Workers(threads, lanes=50).map_lanes(lambda part: list(range(lanes)[part]), lanes)
    assert [lane for part in parts for lane in part] == list(range(lanes))
    assert len(parts) == count_workers(threads, lanes)
    assert all(len(part) >= min(lanes, LEAST_LANES) for part in parts)


def test_workers_are_threads_of_their_own_that_share_the_cores() -> None:
    torch.set_num_threads(4)
    found = Workers(4, lanes=16).map_lanes(lambda _part: (threading.get_ident(), torch.get_num_threads()), 16)
    assert [threads for _, threads in found] == [2, 2]
    assert found[0][0] == threading.get_ident() != found[1][0]


def test_workers_flush_denormal_numbers_whatever_this_thread_does() -> None:
    torch.set_flush_denormal(False)
    tiny = torch.full((8,), 1e-38)
    flushed = Workers(2, lanes=16).map_lanes(lambda _part: bool((tiny * 1e-3).eq(0).all()), 16)
    assert flushed == [False, True]


def test_workers_of_a_gpu_are_one() -> None:
    assert Runtime(torch.device("cpu"), "fp32", 2).workers(64).count == 2
    assert Runtime(torch.device("cuda"), "fp32", 2).workers(64).count == 1


def test_workers_pass_on_what_goes_wrong_in_any_of_them() -> None:
    def compute(part: slice) -> None:
        if part.start:
            raise MemoryError

    with pytest.raises(MemoryError):
        Workers(2, lanes=16).map_lanes(compute, 16)


@pytest.mark.parametrize("objective", ["next", "cloze"])
@pytest.mark.parametrize("cell", ["lstm", "peephole", "gru"])
def test_workers_train_and_validate_as_one_does(cell: str, objective: str) -> None:
    """To rounding: the sums over lanes are taken in another order."""

    def losses(threads: int) -> list[float]:
        settings = TrainingSettings(batch_size=17, sequence_length=9, max_steps=12, validate_every_steps=4)
        model = ModelSettings(
            cell=cell, hidden_size=6, embedding_size=5, objective=objective, bidirectional=objective == "cloze"
        )
        trainer = Trainer(
            build_model(9, model),
            settings,
            dropout=0.4,
            train_ids=TEXT[:-9000],
            validation_ids=TEXT[-9000:],
            runtime=Runtime(torch.device("cpu"), "fp32", threads),
        )
        facts = list(trainer.steps())
        return [step.loss for step in facts] + [step.validation.loss for step in facts if step.validation]

    alone, together = losses(1), losses(2)
    assert len(alone) == 15
    assert together == pytest.approx(alone, rel=1e-5)
    assert losses(2) == together  # bit for bit


@pytest.mark.parametrize("protocol", ["stream", "windows"])
def test_workers_evaluate_as_one_does(protocol: str) -> None:
    model = build_model(9, ModelSettings(hidden_size=6, embedding_size=5))
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 4.0  # so that the state counts
    text, workers = np.tile(TEXT, 3), Workers(3, lanes=64)
    alone = evaluate(model, text, protocol=protocol, settle=False)  # type: ignore[arg-type]
    together = evaluate(model, text, protocol=protocol, settle=False, workers=workers)  # type: ignore[arg-type]
    assert together.loss == pytest.approx(alone.loss, rel=1e-6)
    assert (together.hits, together.chars) == (alone.hits, alone.chars)
