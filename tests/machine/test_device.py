"""Device: what the settings ask for is what there is, and what they leave to auto is the fastest."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from charlstm.errors import SettingsError
from charlstm.machine import Machine, prepare_evaluation, prepare_training
from charlstm.machine.autotuning import Probe, Tuning, Work
from charlstm.networks import build_core
from charlstm.settings import ModelSettings, TrainingSettings

CPU = torch.device("cpu")
MODEL = ModelSettings(cell="gru", hidden_size=7, embedding_size=7, num_layers=1)


@pytest.fixture(autouse=True)
def torch_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def work_of(model: ModelSettings) -> Work:
    """Passes of the model's core."""
    core = build_core(model)

    def compute(steps: int, lanes: int, precision: torch.dtype) -> object:
        outputs, _ = core(torch.ones(steps, lanes, model.embedding_size, dtype=precision))
        return torch.autograd.grad(outputs.sum(), list(core.parameters()))

    return Work(f"{model.cell} {model.kernel} {model.hidden_size}", 10**6, lambda _device: compute)


def prepare(cache: Path | None = None, *, model: ModelSettings = MODEL, **changes: Any) -> Machine:
    defaults = {
        "device": "cpu",
        "precision": "fp32",
        "shards": 1,
        "threads": 1,
        "batch_size": 16,
        "threads_per_shard": 1,
    }
    return prepare_training(TrainingSettings(**{**defaults, **changes}), model, work_of(model), cache=cache)


def fake_speed(monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[int, int, str], float]) -> list[Tuning]:
    """A machine of this speed by shards, teams and precision; the list that comes back fills with what was measured."""
    measured = []

    def measure(_probe: Probe, tuning: Tuning) -> float:
        measured.append(tuning)
        return seconds.get(tuning, 9.0)

    monkeypatch.setattr(Probe, "seconds", measure)
    return measured


def test_machine_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = fake_speed(monkeypatch, {})
    for shards, threads in ((2, 1), (3, 2)):
        assert prepare(shards=shards, threads=threads) == Machine(CPU, "fp32", shards, threads)
        assert torch.get_num_threads() == 1  # the cores are left to the shards
    assert measured == []  # nothing was left open


def test_machine_auto_threads_are_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert prepare(threads="auto").threads == 3
    assert prepare_evaluation(64) == Machine(prepare_evaluation(64).device, "fp32", 3, 3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert prepare(threads="auto").threads == len(os.sched_getaffinity(0))


def test_machine_flushes_denormal_numbers() -> None:
    tiny = torch.full((8,), 1e-38)
    assert (tiny * 1e-3).ne(0).all()
    prepare()
    assert (tiny * 1e-3).eq(0).all()


@pytest.mark.usefixtures("no_gpu")
def test_machine_refuses_a_device_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match=r"training\.device is cuda"):
        prepare(device="cuda")
    assert prepare(device="auto").device == CPU
    assert prepare_evaluation(64).device == CPU


def test_machine_takes_the_gpu_if_there_is_one_and_the_cpu_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert prepare(device="auto", shards="auto") == Machine(torch.device("cuda"), "fp32", 1, 1)
    assert prepare(device="cuda").device.type == "cuda"
    assert prepare(device="cpu").device == CPU
    assert prepare_evaluation(64) == Machine(torch.device("cuda"), "fp32", 1, 1)


@pytest.mark.parametrize(("bf16", "chosen"), [(1.0, "bf16"), (3.0, "fp32"), (math.inf, "fp32")])
def test_machine_auto_precision_is_the_faster(bf16: float, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_speed(monkeypatch, {(1, 1, "fp32"): 2.0, (1, 1, "bf16"): bf16})
    assert prepare(precision="auto").precision == chosen


@pytest.mark.parametrize("fastest", [1, 2, 4])
def test_machine_auto_shards_are_the_fastest_up_to_one_a_thread(fastest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = fake_speed(monkeypatch, {(fastest, 1, "fp32"): 1.0})
    assert prepare(shards="auto", threads=4).shards == fastest
    assert [tuning.shards for tuning in measured] == [1, 2, 4]
    measured.clear()
    assert prepare(shards="auto", threads=4, batch_size=7).shards == 1  # too few lanes to share
    assert measured == []


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(("fastest", "threads"), [((1, 4), 1), ((2, 2), 2), ((4, 1), 4), ((1, 1), 4)])
def test_machine_cuts_the_work_into_shards_and_teams_as_is_fastest(
    fastest: tuple[int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    measured = fake_speed(monkeypatch, {(*fastest, "fp32"): 1.0})
    found = prepare(shards="auto", threads="auto", threads_per_shard="auto")
    assert (found.shards, found.threads_per_shard, found.threads) == (*fastest, threads)
    assert {tuning[:2] for tuning in measured} == {(1, 1), (1, 4), (2, 1), (2, 2), (4, 1)}
    asked = prepare(shards=3, threads="auto", threads_per_shard=2)
    assert (asked.shards, asked.threads_per_shard, asked.threads) == (3, 2, 2)


def test_machine_refuses_bf16_where_it_cannot_train(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_speed(monkeypatch, {(1, 1, "bf16"): math.inf})
    with pytest.raises(SettingsError, match=r"training\.precision is bf16.*cannot train gru"):
        prepare(precision="bf16")
    fake_speed(monkeypatch, {(1, 1, "bf16"): 5.0, (1, 1, "fp32"): 1.0})
    assert prepare(precision="bf16").precision == "bf16"  # slower, and asked for


@pytest.mark.parametrize("idle", [True, False])
def test_autotuning_remembers_what_was_fastest_on_an_idle_machine(
    idle: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0 if idle else 99.0, 0.0, 0.0))
    cache = tmp_path / "deep" / "speeds.json"
    fake_speed(monkeypatch, {(1, 1, "bf16"): 1.0})
    assert prepare(cache, precision="auto").precision == "bf16"
    measured = fake_speed(monkeypatch, {(1, 1, "fp32"): 1.0})
    assert prepare(cache, precision="auto").precision == ("bf16" if idle else "fp32")
    assert bool(measured) == (not idle)
    for other in ({"hidden_size": 31}, {"cell": "lstm"}, {"kernel": "unrolled"}):  # of which nothing is known
        assert prepare(cache, precision="auto", model=msgspec.structs.replace(MODEL, **other)).precision == "fp32"


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"a": 3}'])
def test_autotuning_measures_again_if_what_it_remembers_is_damaged(
    damaged: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "speeds.json"
    cache.write_bytes(damaged)
    fake_speed(monkeypatch, {(1, 1, "bf16"): 1.0})
    assert prepare(cache, precision="auto").precision == "bf16"
    assert [1, 1, "bf16"] in json.loads(cache.read_bytes()).values()


def test_autotuning_remembers_no_tuning_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "speeds.json"
    fake_speed(monkeypatch, {(1, 1, "bf16"): 1.0})
    prepare(cache, precision="auto")
    cache.write_text(cache.read_text().replace('"bf16"', '"fp64"'))
    assert prepare(cache, precision="auto").precision == "bf16"


def test_autotuning_measures_those_again_that_are_near_the_fastest_and_takes_the_best_median(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seconds = {"fp32": [2.0, 2.0, 2.0], "bf16": [1.9, 2.5, 2.2]}
    measured: list[Tuning] = []

    def measure(_probe: Probe, tuning: Tuning) -> float:
        measured.append(tuning)
        return 9.0 if tuning.shards == 2 else seconds[tuning.precision].pop(0)

    monkeypatch.setattr(Probe, "seconds", measure)
    assert prepare(shards="auto", threads=2, precision="auto").precision == "fp32"
    near = [(1, 1, "fp32"), (1, 1, "bf16")]
    assert measured == [*near, (2, 1, "fp32"), (2, 1, "bf16"), *near, *near]


@pytest.mark.parametrize("flop_per_char", [1, 10**7, 10**12])
def test_autotuning_computes_every_lane_in_passes_that_are_neither_short_nor_long(flop_per_char: int) -> None:
    passes = []
    work = Work("", flop_per_char, lambda _device: lambda *sizes: passes.append(sizes))
    assert 0 < Probe(work, lanes=7, device=CPU, threads=1, cores=1).seconds(Tuning(2, 1, "bf16")) < math.inf
    assert {lanes for _, lanes, _ in passes} == {3, 4}
    assert {dtype for *_, dtype in passes} == {torch.bfloat16}
    (steps,) = {steps for steps, *_ in passes}
    assert 16 <= steps <= 32
