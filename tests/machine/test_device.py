"""Runtime: what the settings ask for is what there is, and what they leave open is the fastest."""

import ctypes
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from charlstm.errors import SettingsError
from charlstm.machine import runtime
from charlstm.machine.runtime import Runtime, keep_freed_memory, prepare_runtime
from charlstm.settings import TrainingSettings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings(**{"device": "cpu", "precision": "fp32", "threads": 1, **changes})


def fake_speed(monkeypatch: pytest.MonkeyPatch, seconds: dict[tuple[int, str], float]) -> list[tuple[int, str]]:
    """A machine of this speed; the list that comes back fills with what was measured."""
    measured = []

    def measure(threads: int, precision: str, **_rest: Any) -> float:
        measured.append((threads, precision))
        return seconds.get((threads, precision), 9.0)

    monkeypatch.setattr(runtime, "_seconds_of_a_step", measure)
    return measured


def test_runtime_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = fake_speed(monkeypatch, {})
    for threads in (2, 1):
        assert prepare_runtime(settings(threads=threads)) == Runtime(CPU, "fp32", threads)
        assert torch.get_num_threads() == threads
    assert measured == []  # nothing was left open


def test_runtime_dtype_is_that_of_its_precision() -> None:
    assert Runtime(CPU, "fp32", 1).dtype == torch.float32
    assert Runtime(CPU, "bf16", 1).dtype == torch.bfloat16


def test_runtime_flushes_denormal_numbers() -> None:
    tiny = torch.full((8,), 1e-38)
    assert (tiny * 1e-3).ne(0).all()
    prepare_runtime(settings())
    assert (tiny * 1e-3).eq(0).all()


@pytest.mark.usefixtures("no_gpu")
def test_runtime_refuses_a_device_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match=r"training\.device is cuda"):
        prepare_runtime(settings(device="cuda"))
    assert prepare_runtime(settings(device="auto")).device == CPU


def test_runtime_takes_the_gpu_if_there_is_one_and_the_cpu_if_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert prepare_runtime(settings(device="auto")).device.type == "cuda"
    assert prepare_runtime(settings(device="cuda")).device.type == "cuda"
    assert prepare_runtime(settings(device="cpu")).device == CPU


@pytest.mark.parametrize(("bf16", "chosen"), [(1.0, "bf16"), (3.0, "fp32"), (math.inf, "fp32")])
def test_runtime_auto_precision_is_the_faster(bf16: float, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_speed(monkeypatch, {(1, "fp32"): 2.0, (1, "bf16"): bf16})
    assert prepare_runtime(settings(precision="auto")).precision == chosen


def test_runtime_auto_threads_are_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    fake_speed(monkeypatch, {(1, "fp32"): 1.0, (2, "fp32"): 2.0})
    assert prepare_runtime(settings(threads="auto")).threads == torch.get_num_threads() == 1
    torch.set_num_threads(2)
    fake_speed(monkeypatch, {(1, "fp32"): 2.0, (2, "fp32"): 1.0})
    assert prepare_runtime(settings(threads="auto")).threads == torch.get_num_threads() == 2


def test_runtime_refuses_bf16_where_it_cannot_train(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_speed(monkeypatch, {(1, "bf16"): math.inf})
    with pytest.raises(SettingsError, match=r"training\.precision is bf16"):
        prepare_runtime(settings(precision="bf16"))
    fake_speed(monkeypatch, {(1, "bf16"): 5.0, (1, "fp32"): 1.0})
    assert prepare_runtime(settings(precision="bf16")).precision == "bf16"  # slower, and asked for


@pytest.mark.parametrize("idle", [True, False])
def test_runtime_remembers_what_was_fastest_on_an_idle_machine(
    idle: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "getloadavg", lambda: (0.0 if idle else 99.0, 0.0, 0.0))
    note = tmp_path / "deep" / "measured.json"
    asked = settings(precision="auto")
    assert fake_speed(monkeypatch, {(1, "bf16"): 1.0}) == []
    assert prepare_runtime(asked, measured=note).precision == "bf16"
    measured = fake_speed(monkeypatch, {(1, "fp32"): 1.0})
    assert prepare_runtime(asked, measured=note).precision == ("bf16" if idle else "fp32")
    assert bool(measured) == (not idle)
    assert prepare_runtime(asked, hidden_size=31, measured=note).precision == "fp32"  # of another size nothing is known


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b"\xff", b'{"a": 3}'])
def test_runtime_measures_again_if_what_it_remembers_is_damaged(
    damaged: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    note = tmp_path / "measured.json"
    note.write_bytes(damaged)
    fake_speed(monkeypatch, {(1, "bf16"): 1.0})
    assert prepare_runtime(settings(precision="auto"), measured=note).precision == "bf16"
    assert [1, "bf16"] in json.loads(note.read_bytes()).values()


def test_runtime_remembers_no_choice_that_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    note = tmp_path / "measured.json"
    fake_speed(monkeypatch, {(1, "bf16"): 1.0})
    prepare_runtime(settings(precision="auto"), measured=note)
    note.write_text(note.read_text().replace('"bf16"', '"fp64"'))
    assert prepare_runtime(settings(precision="auto"), measured=note).precision == "bf16"


def test_runtime_probe_takes_real_time() -> None:
    assert 0 < runtime._seconds_of_a_step(1, "fp32", device=CPU, shape=(7, 3)) < math.inf


def test_runtime_needs_no_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    keep_freed_memory()


@pytest.mark.parametrize(("beyond", "shared"), [(0, []), (1, [1])])
def test_runtime_shares_one_arena_for_blocks_that_others_cannot_hold(
    beyond: int, shared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    library = SimpleNamespace(mallopt=lambda option, value: told.append((option, value)))
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
    keep_freed_memory(largest_block=runtime.ARENA_BYTES + beyond)
    assert [value for option, value in told if option == runtime.MALLOPT_ARENA_MAX] == shared


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_runtime_keeps_freed_memory() -> None:
    """Page faults, not seconds: memory that is used again is not mapped anew."""
    program = (
        "import resource, sys, torch; from charlstm.machine.runtime import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': keep_freed_memory()\n"
        "def fault(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): torch.ones(10_000_000)\n"
        "before = fault()\n"
        "for _ in range(10): torch.ones(10_000_000)\n"
        "print(fault() - before)"
    )
    faults = {
        how: int(
            subprocess.run([sys.executable, "-c", program, how], capture_output=True, check=True, text=True).stdout
        )
        for how in ("keep", "leave")
    }
    assert faults["keep"] * 10 < faults["leave"]
