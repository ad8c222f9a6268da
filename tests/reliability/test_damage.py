"""Whatever a disk made of a run's files: what is read is the same as was written, or one sentence says it is not."""

import json
import os
import pickle
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from charlstm import runs
from charlstm.errors import RunError, SettingsError
from charlstm.runs import checkpoints

from ..forks import Forks
from ..small_runs import bits, end_of, resume
from .forgeries import FILES, LATEST, Touch, gigabyte

READ = ("config.yaml", "vocab.json", "latest", "best", *(f"{LATEST}/{name}" for name in FILES))
WITH_SLACK = ("config.yaml", "latest", "best")  # the comment in the first line; white space at the end


def read(folder: Path) -> tuple[Any, ...]:
    """All that reading a run gives."""
    run = runs.open_run(folder)
    both = [bits(checkpoints.read_checkpoint(run, which)) for which in ("latest", "best")]  # type: ignore[arg-type]
    return run.settings, run.vocab, *both


def verdict(folder: Path, expected: tuple[Any, ...]) -> str:
    """ "same", "refused" or, what must never be, "silent"; any other exception is a failure."""
    try:
        found = read(folder)
    except (RunError, SettingsError) as error:
        return "refused" if "\n" not in str(error) else "refused in two lines"
    return "same" if found == expected else "silent"


@pytest.mark.parametrize("flips", [pytest.param(2000, marks=pytest.mark.long), 320], ids=["long", "quick"])
def test_damage_of_one_bit_is_never_silent(run: Path, tell: Callable[[str], None], flips: int) -> None:
    expected = read(run)
    draw = random.Random(flips)
    paths = [run / name for name in READ]
    verdicts: Counter[str] = Counter()
    for number in range(flips):
        path = paths[number % len(paths)]  # as many in the small files as in the large ones
        original = path.read_bytes()
        damaged = bytearray(original)
        damaged[draw.randrange(len(original))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        found = verdict(run, expected)
        assert found == "refused" or (found == "same" and path.name in WITH_SLACK), (path, damaged)
        verdicts[found] += 1
        path.write_bytes(original)
    assert read(run) == expected
    tell(f"{flips} flipped bits: {verdicts['refused']} refused, {verdicts['same']} the same content, 0 silent")


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long), 211], ids=["long", "quick"])
def test_damage_of_every_length_is_never_silent(run: Path, tell: Callable[[str], None], stride: int) -> None:
    expected = read(run)
    verdicts: Counter[str] = Counter()
    for name in READ:
        path = run / name
        original = path.read_bytes()
        for length in {*range(0, len(original), stride), len(original) - 1}:
            path.write_bytes(original[:length])
            found = verdict(run, expected)
            assert found == "refused" or (found == "same" and name in WITH_SLACK), (path, length)
            verdicts[found] += 1
        path.write_bytes(original)
    tell(
        f"{verdicts.total()} truncations: {verdicts['refused']} refused, {verdicts['same']} the same content, 0 silent"
    )


@pytest.mark.parametrize("flips", [pytest.param(300, marks=pytest.mark.long), 15], ids=["long", "quick"])
def test_damage_of_the_metrics_does_not_disturb_a_resume(
    whole: Path, tmp_path: Path, tell: Callable[[str], None], flips: int
) -> None:
    """They are a record for people: a damaged line is dropped or kept, and training takes nothing from it."""
    draw = random.Random(1)
    more = ("training.max_steps=7",)
    run = tmp_path / "run"
    expected = None
    for number in range(flips + 1):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        path = run / "metrics.jsonl"
        if number:
            damaged = bytearray(path.read_bytes())
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
            path.write_bytes(damaged[: draw.randrange(len(damaged))] if number % 5 == 0 else damaged)
        resume(run, more)
        found = bits(checkpoints.read_checkpoint(runs.open_run(run), "latest"))
        expected = expected or found
        assert found == expected
    tell(f"{flips} damaged logs of metrics, all resumed to the same bits")


def test_damage_of_the_latest_is_fallen_back_from(
    whole: Path, tmp_path: Path, tell: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A resume goes on from the checkpoint before, says so, and ends with the same bits."""
    more = ("training.max_steps=9",)
    intact = tmp_path / "intact"
    shutil.copytree(whole, intact)
    resume(intact, more)
    expected = end_of(intact)
    count = 0
    for name in ("latest", *(f"{LATEST}/{name}" for name in FILES)):
        for damage in ("flip", "cut", "gone"):
            count += 1
            run = tmp_path / f"run-{count}"
            shutil.copytree(whole, run)
            path = run / name
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            if damage == "gone":
                path.unlink()
            else:
                path.write_bytes(data if damage == "flip" else data[:5])
            capsys.readouterr()
            resume(run, more)
            assert "going on from step-0000000" in capsys.readouterr().err
            assert end_of(run) == expected, (name, damage)
    tell(f"{count} damaged checkpoints fallen back from, all to the same bits")


def swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


MUTATIONS: dict[str, Callable[[Path], object]] = {
    "model and training swapped": lambda at: swap(at / FILES[0], at / FILES[1]),
    "model of another checkpoint": lambda at: swap(at / FILES[0], at.with_name("step-00000005") / FILES[0]),
    "training of another checkpoint": lambda at: swap(at / FILES[1], at.with_name("step-00000005") / FILES[1]),
    "progress of another checkpoint": lambda at: swap(at / FILES[2], at.with_name("step-00000005") / FILES[2]),
    "manifest of another checkpoint": lambda at: swap(at / FILES[3], at.with_name("step-00000005") / FILES[3]),
    "checkpoints renamed": lambda at: (
        at.rename(at.with_name("away")),
        at.with_name("step-00000005").rename(at),
        at.with_name("away").rename(at.with_name("step-00000005")),
    ),
    "another checkpoint's copy": lambda at: (
        shutil.rmtree(at),
        shutil.copytree(at.with_name("step-00000005"), at),
    ),
    "pointers swapped": lambda at: swap(at.parents[1] / "latest", at.parents[1] / "best"),
    "vocabulary reordered": lambda at: reorder(at.parents[1] / "vocab.json"),
    "checkpoint missing": shutil.rmtree,
    "best missing": lambda at: (at.parents[1] / "best").unlink(),
    "latest missing": lambda at: (at.parents[1] / "latest").unlink(),
    "a line of the settings missing": lambda at: drop_line(at.parents[1] / "config.yaml", 7),
    "the checksum and a line of the settings missing": lambda at: (
        drop_line(at.parents[1] / "config.yaml", 0),
        drop_line(at.parents[1] / "config.yaml", 13),  # embedding_size
    ),
    "checkpoint a file": lambda at: (shutil.rmtree(at), at.write_text("")),
    "a NUL in a pointer": lambda at: (at.parents[1] / "latest").write_bytes(b"step-00000006\0\n"),
    "a folder as the vocabulary": lambda at: (
        (at.parents[1] / "vocab.json").unlink(),
        (at.parents[1] / "vocab.json").mkdir(),
    ),
    "a folder as a pointer": lambda at: ((at.parents[1] / "latest").unlink(), (at.parents[1] / "latest").mkdir()),
    "a deep vocabulary": lambda at: (at.parents[1] / "vocab.json").write_text("[" * 90_000),
    **{f"{name} longer": lambda at, name=name: append(at.parents[1] / name) for name in READ},
    **{f"{name} missing": lambda at, name=name: (at / name).unlink() for name in FILES},
    **{f"{name} a folder": lambda at, name=name: ((at / name).unlink(), (at / name).mkdir()) for name in FILES},
    **{f"{name} a pickle": lambda at, name=name: (at / name).write_bytes(pickle.dumps(Touch())) for name in FILES},
}


def drop_line(path: Path, number: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:number] + lines[number + 1 :]))


def reorder(path: Path) -> None:
    fields = json.loads(path.read_text())
    fields["symbols"] = fields["symbols"][::-1]
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize("change", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_damage_of_another_kind_is_never_silent(run: Path, change: Callable[[Path], object]) -> None:
    expected = read(run)
    change(run / LATEST)
    assert verdict(run, expected) in ("refused", "same")
    assert verdict(run, expected) == "refused" or change is MUTATIONS["another checkpoint's copy"]
    assert not Path("touched").exists()


def test_damage_a_fifo_is_not_waited_for(run: Path) -> None:
    for name in READ:
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(RunError):
            read(run)
        (run / name).unlink()
        (run / name).write_bytes(b"")


def lying(change: Callable[[dict[str, Any]], Any]) -> Callable[[bytes], bytes]:
    def altered(manifest: bytes) -> bytes:
        entries = json.loads(manifest)
        result = change(entries)
        return json.dumps(entries if result is None else result).encode()

    return altered


MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "not JSON": lambda _: b"{",
    "not UTF-8": lambda _: b'{"a": "\xff"}',
    "deep": lambda _: b"[" * 50_000,
    "empty": lambda _: b"",
    "a list": lambda _: b"[]",
    "a number": lambda _: b"3",
    "no entries": lambda _: b"{}",
    "a missing entry": lying(lambda m: m.pop("progress.json") and None),
    "a missing vocabulary": lying(lambda m: m.pop("vocab.json") and None),
    "another size": lying(lambda m: m["model.safetensors"].update(bytes=1)),
    "a size of text": lying(lambda m: m["model.safetensors"].update(bytes="many")),
    "a size beyond 64 bits": lying(lambda m: m["model.safetensors"].update(bytes=10**40)),
    "another checksum": lying(lambda m: m["model.safetensors"].update(sha256="0" * 64)),
    "a null checksum": lying(lambda m: m["model.safetensors"].update(sha256=None)),
    "an extra field": lying(lambda m: m["model.safetensors"].update(path="../../../etc/passwd")),
    "a key twice": lambda m: m.replace(b"{", b'{"model.safetensors": {"sha256": "", "bytes": 1},', 1),
    "an extra entry": lying(lambda m: m.update({"../../../secret": {"sha256": "0" * 64, "bytes": 1}})),
}


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("by_hand", [False, True], ids=["pointer", "pointer by hand"])
def test_damage_of_a_manifest_is_refused(run: Path, name: str, by_hand: bool) -> None:
    """Also where a pointer that a person wrote does not say which manifest is meant."""
    expected = read(run)
    manifest = run / LATEST / "manifest.json"
    manifest.write_bytes(MANIFESTS[name](manifest.read_bytes()))
    if by_hand:
        (run / "latest").write_text("step-00000006\n")
    not_read = by_hand and name in ("an extra entry", "a key twice")  # of two equal keys the last counts
    assert verdict(run, expected) == ("same" if not_read else "refused")


@pytest.mark.parametrize("name", [*READ])
def test_damage_of_a_gigabyte_is_refused_by_the_commands_in_bounded_memory(
    run: Path, forks: Forks, tmp_path: Path, name: str
) -> None:
    gigabyte(run / name)
    for which in ("latest", "best"):
        if which not in name:
            (run / which).write_text("step-00000006\n")
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    shutil.rmtree(run / "checkpoints" / "step-00000005")
    for command in (["sample", "--run", str(run), "--length", "5", "--seed", "1"], ["train", "--resume", str(run)]):
        end = forks.run(command, cwd=tmp_path, more_memory_bytes=200 << 20)
        if end.code == 0:
            assert "latest" in name or "best" in name or "training" in name
        else:
            assert (end.code, end.out, end.err.count("\n")) == (RunError.exit_code, "", 1), end
