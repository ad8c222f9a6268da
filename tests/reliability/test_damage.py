"""Whatever has become of a run's files: what is read is the same as was written, or one sentence says it is not.

Damage is what a disk does; a forgery is a change that the manifest vouches for, which no checksum can tell from a
checkpoint that was trained: it must still be one that could have been, or be refused.
"""

import json
import math
import pickle
import random
import shutil
import struct
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from charlstm.errors import CharLSTMError, RunError, SettingsError
from charlstm.runs import checkpoints
from charlstm.runs import folder as runs

from ..forks import Forks
from ..small_runs import bits, contents, end_of, resume, stopping, train

LATEST = "checkpoints/step-00000006"
FILES = ("model.safetensors", "training.safetensors", "progress.json", "manifest.json")
READ = ("config.yaml", "vocab.json", "latest", "best", *(f"{LATEST}/{name}" for name in FILES))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose best is older than its latest; tests damage copies of it."""
    folder = tmp_path_factory.mktemp("whole")
    run = train(folder, validate=4, steps=4)
    with stopping(6):
        resume(run, ("training.max_steps=9",))
    opened = runs.open_run(run)
    assert checkpoints.checkpoint_names(opened) == ["step-00000004", "step-00000005", "step-00000006"]
    return run


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def read(folder: Path) -> tuple[Any, ...]:
    """All that reading a run gives."""
    run = runs.open_run(folder)
    both = [bits(checkpoints.read_checkpoint(run, which)) for which in ("latest", "best")]  # type: ignore[arg-type]
    return run.settings, run.vocab, *both


def verdict(folder: Path, expected: tuple[Any, ...]) -> str:
    """ "same", "refused" or, what must never be, "silent"; any other exception is a failure."""
    try:
        found = read(folder)
    except (RunError, SettingsError):
        return "refused"
    return "same" if found == expected else "silent"


@pytest.mark.parametrize("flips", [pytest.param(2000, marks=pytest.mark.long), 300], ids=["long", "quick"])
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
        assert found != "silent", (path, damaged)
        verdicts[found] += 1
        path.write_bytes(original)
    assert read(run) == expected
    tell(f"{flips} flipped bits: {verdicts['refused']} refused, {verdicts['same']} the same content, 0 silent")


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.long), 101], ids=["long", "quick"])
def test_damage_of_every_length_is_never_silent(run: Path, tell: Callable[[str], None], share: int) -> None:
    expected = read(run)
    verdicts: Counter[str] = Counter()
    for name in READ:
        path = run / name
        original = path.read_bytes()
        for length in [*range(0, len(original), share), len(original) - 1]:
            path.write_bytes(original[:length])
            found = verdict(run, expected)
            assert found != "silent", (path, length)
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


# Other mutations


def swap(one: Path, other: Path) -> None:
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


class Touch:
    """What a pickle that runs code looks like: loading it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, ("touched", "w"))


def gigabyte(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a hole: no disk is used


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
    "settings missing": lambda at: (at.parents[1] / "config.yaml").unlink(),
    "vocabulary missing": lambda at: (at.parents[1] / "vocab.json").unlink(),
    "a line of the settings missing": lambda at: drop_line(at.parents[1] / "config.yaml", 7),
    "the seal and a line of the settings missing": lambda at: (
        drop_line(at.parents[1] / "config.yaml", 0),
        drop_line(at.parents[1] / "config.yaml", 12),
    ),
    "checkpoint a file": lambda at: (shutil.rmtree(at), at.write_text("")),
    "an outside path": lambda at: (at.parents[1] / "latest").write_text("../../whole/checkpoints/step-00000006\n"),
    "an absolute path": lambda at: (at.parents[1] / "latest").write_text("/etc/passwd\n"),
    "a pointer to itself": lambda at: (at.parents[1] / "latest").write_text("../latest\n"),
    "a NUL in a pointer": lambda at: (at.parents[1] / "latest").write_bytes(b"step-00000006\0\n"),
    "a pointer of a gigabyte": lambda at: gigabyte(at.parents[1] / "latest"),
    "settings of a gigabyte": lambda at: gigabyte(at.parents[1] / "config.yaml"),
    "a vocabulary of a gigabyte": lambda at: gigabyte(at.parents[1] / "vocab.json"),
    "a folder as a pointer": lambda at: ((at.parents[1] / "latest").unlink(), (at.parents[1] / "latest").mkdir()),
    "a deep manifest": lambda at: (at / FILES[3]).write_text("[" * 90_000),
    "a deep vocabulary": lambda at: (at.parents[1] / "vocab.json").write_text("[" * 90_000),
    "a key twice in the manifest": lambda at: (at / FILES[3]).write_bytes(
        (at / FILES[3]).read_bytes().replace(b"{", b'{"model.safetensors": {"sha256": "", "bytes": 1},', 1)
    ),
    **{f"{name} missing": lambda at, name=name: (at / name).unlink() for name in FILES},
    **{f"{name} empty": lambda at, name=name: (at / name).write_bytes(b"") for name in FILES},
    **{f"{name} a folder": lambda at, name=name: ((at / name).unlink(), (at / name).mkdir()) for name in FILES},
    **{f"{name} a pickle": lambda at, name=name: (at / name).write_bytes(pickle.dumps(Touch())) for name in FILES},
    **{f"{name} of a gigabyte": lambda at, name=name: gigabyte(at / name) for name in FILES},
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
    import os

    for name in READ:
        (run / name).unlink()
        os.mkfifo(run / name)
        with pytest.raises(RunError):
            read(run)
        (run / name).unlink()
        (run / name).write_bytes(b"")


# Forgeries


def forge(run: Path, name: str, data: bytes) -> None:
    """Put a file into the latest checkpoint, and have manifest and pointer vouch for it."""
    at = run / LATEST
    (at / name).write_bytes(data)
    manifest = json.loads((at / "manifest.json").read_bytes())
    manifest[name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    (at / "manifest.json").write_text(json.dumps(manifest))
    for pointer in ("latest", "best"):
        (run / pointer).write_text(f"{at.name}\n")


def scalars(**changes: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda progress: json.dumps({**progress, **changes}).encode()


def without(name: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda progress: json.dumps({key: value for key, value in progress.items() if key != name}).encode()


SCALARS: dict[str, Callable[[dict[str, Any]], bytes]] = {
    "a list": lambda _: b"[]",
    "null": lambda _: b"null",
    "a word": lambda _: b'"step"',
    "empty": lambda _: b"",
    "not JSON": lambda _: b"{",
    "not UTF-8": lambda _: b'{"step": "\xff"}',
    "deep": lambda _: b"[" * 90_000,
    "deep inside": lambda p: (
        json.dumps({**p, "seconds": 0}).encode().replace(b'"seconds": 0', b'"seconds": ' + b"[" * 90_000)
    ),
    "a negative step": scalars(step=-1),
    "another step": scalars(step=5),
    "a huge step": scalars(step=10**400),
    "a step of text": scalars(step="6"),
    "half a step": scalars(step=6.5),
    "a step of true": scalars(step=True),
    "no step": without("step"),
    "no text": without("text_sha256"),
    "no loss": without("best_loss"),
    "no seconds": without("seconds"),
    "a text of numbers": scalars(text_sha256=7),
    "another text": scalars(text_sha256="0" * 64),
    "a text of a path": scalars(text_sha256="../../../etc/passwd"),
    "an unknown scalar": scalars(extra=1),
    "a NaN loss": lambda p: json.dumps({**p, "best_loss": math.nan}).encode(),
    "an infinite loss": lambda p: json.dumps({**p, "best_loss": math.inf}).encode(),
    "a loss beyond numbers": lambda p: (
        json.dumps({**p, "seconds": 0}).encode().replace(b'"seconds": 0', b'"seconds": 1e999')
    ),
    "a loss of text": scalars(best_loss="1"),
    "negative seconds": scalars(seconds=-1.0),
    "seconds of null": scalars(seconds=None),
    "a best step to come": scalars(best_step=7),
    "a negative best step": scalars(best_step=-4),
    "a best step without a loss": scalars(best_loss=None),
    "a huge best step": scalars(best_step=10**300),
    "negative patience": scalars(validations_since_best=-1),
    "a huge end": scalars(total_steps=10**300),
    "a negative end": scalars(total_steps=-5),
    "a digit more than Python reads": lambda p: (
        json.dumps({**p, "step": 0}).encode().replace(b'"step": 0', b'"step": ' + b"9" * 5000)
    ),
    "megabytes": lambda p: json.dumps(p).encode() + b" " * 5_000_000,
    "a pickle": lambda _: pickle.dumps(Touch()),
    "a scalar twice": lambda p: json.dumps(p).encode().replace(b"{", b'{"step": 6, ', 1),
}


@pytest.mark.parametrize("name", SCALARS)
def test_forgeries_of_the_progress_are_refused(run: Path, name: str) -> None:
    data = SCALARS[name](json.loads((run / LATEST / "progress.json").read_bytes()))
    forge(run, "progress.json", data)
    if not refused(run):
        assert name == "a scalar twice"  # the last of them counts, as it is written
    assert not Path("touched").exists()


def refused(run: Path) -> bool:
    """Whether the resume of a run is refused or falls back; anything but our own mistakes is a failure."""
    for other in ("step-00000004", "step-00000005"):
        shutil.rmtree(run / "checkpoints" / other, ignore_errors=True)
    try:
        resume(run, ("training.max_steps=8",))
    except CharLSTMError:
        return True
    return False


def arrays(change: Callable[[dict[str, np.ndarray]], object]) -> Callable[[bytes], bytes]:
    def altered(data: bytes) -> bytes:
        found = dict(safetensors_numpy.load(data))
        result = change(found)
        return safetensors_numpy.save(result if isinstance(result, dict) else found)

    return altered


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """A safetensors file whose header says something else about the same numbers."""

    def altered(data: bytes) -> bytes:
        length = struct.unpack("<Q", data[:8])[0]
        fields = json.loads(data[8 : 8 + length])
        result = change(fields)
        text = result if isinstance(result, bytes) else json.dumps(fields).encode()
        return struct.pack("<Q", len(text)) + text + data[8 + length :]

    return altered


BIAS, MOMENT = "output.bias", "exp_avg.output.bias"
COMMON: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "none": arrays(lambda _: {}),
    "a pickle": lambda _: pickle.dumps(Touch()),
    "a header of an exabyte": lambda data: struct.pack("<Q", 1 << 60) + data[8:],
    "a header of a gigabyte": lambda data: struct.pack("<Q", 1 << 30) + data[8:],
    "a header of 2^64": lambda data: b"\xff" * 8 + data[8:],
    "a header of nothing": lambda _: struct.pack("<Q", 0),
    "a deep header": header(lambda _: b"[" * 50_000),
    "a header that is no object": header(lambda _: b"[]"),
    "a header that is not UTF-8": header(lambda _: b'{"\xff": 1}'),
    "a name twice": header(
        lambda fields: json.dumps(fields).encode().replace(b"{", json.dumps(fields).encode()[:-1] + b",", 1)
    ),
    "megabytes of header": header(lambda fields: json.dumps(fields).encode() + b" " * 3_000_000),
    "an extra array": arrays(lambda found: found.update(extra=np.zeros(2, np.float32))),
    "an extra moment": arrays(lambda found: found.update({"exp_avg.nothing": np.zeros(2, np.float32)})),
    "an extra state": arrays(lambda found: found.update({"state.x": np.zeros(2, np.float32)})),
    "bytes too many": lambda data: data + b"\0" * 64,
}


def of(name: str) -> dict[str, Callable[[bytes], bytes]]:
    """Forgeries of one array in a file."""

    def says(**changes: Any) -> Callable[[bytes], bytes]:
        return header(lambda fields: fields[name].update(changes))

    return {
        "missing": arrays(lambda found: found.pop(name) is None),
        "NaN": arrays(lambda found: found[name].fill(np.nan)),
        "infinite": arrays(lambda found: found[name].fill(np.inf)),
        "doubles": arrays(lambda found: found.update({name: found[name].astype(np.float64)})),
        "halves": arrays(lambda found: found.update({name: found[name].astype(np.float16)})),
        "integers": arrays(lambda found: found.update({name: found[name].astype(np.int32)})),
        "longer": arrays(lambda found: found.update({name: np.zeros(found[name].size + 1, np.float32)})),
        "a scalar": arrays(lambda found: found.update({name: np.zeros((), np.float32)})),
        "empty": arrays(lambda found: found.update({name: np.zeros((0, 3), np.float32)})),
        "of one dimension more": arrays(lambda found: found.update({name: found[name][None]})),
        "absurd": says(shape=[1 << 40]),
        "absurd and empty": says(shape=[0, 1 << 62, 1 << 62]),
        "of a product that overflows": says(shape=[1 << 32, 1 << 32]),
        "negative": says(shape=[-1]),
        "of a thousand dimensions": says(shape=[1] * 1000),
        "of no known type": says(dtype="F7"),
        "bfloat16": says(dtype="BF16"),
        "float8": says(dtype="F8_E4M3"),
        "backwards": says(data_offsets=[8, 0]),
        "far away": says(data_offsets=[0, 1 << 50]),
        "overlapping": says(data_offsets=[0, 4]),
        "without offsets": header(lambda fields: fields[name].pop("data_offsets") and None),
        "a list": header(lambda fields: fields.update({name: [1]}) and None),
        "metadata": header(lambda fields: fields.update({"__metadata__": {"a": 5}})),
    }


FORGERIES = {
    "model.safetensors": {**COMMON, **of(BIAS)},
    "training.safetensors": {
        **COMMON,
        **of(MOMENT),
        **{f"state {what}": how for what, how in of("state.h").items()},
        "a negative variance": arrays(lambda found: found["exp_avg_sq.output.bias"].fill(-1)),
        "a step of 0": arrays(lambda found: found["step.output.bias"].fill(0)),
        "a negative step": arrays(lambda found: found["step.output.bias"].fill(-3)),
        "half of the state": arrays(lambda found: found.pop("state.c") is None),
        "other lanes": arrays(
            lambda found: found.update({f"state.{s}": np.zeros((2, 9, 8), np.float32) for s in "hc"})
        ),
        "other layers": arrays(
            lambda found: found.update({f"state.{s}": np.zeros((1, 3, 8), np.float32) for s in "hc"})
        ),
    },
}
EACH = [(file, what) for file, forgeries in FORGERIES.items() for what in forgeries]


@pytest.mark.parametrize(("file", "what"), EACH)
def test_forgeries_of_arrays_are_refused(run: Path, file: str, what: str) -> None:
    data = FORGERIES[file][what]((run / LATEST / file).read_bytes())
    forge(run, file, data)
    if what == "a name twice":  # the last of them counts, as it is written: the same content
        assert not refused(run)
        return
    if file == "model.safetensors":
        with pytest.raises(RunError) as caught:
            checkpoints.read_checkpoint(runs.open_run(run), "best", model_only=True)
        assert "\n" not in str(caught.value)
    assert refused(run)
    assert not Path("touched").exists()


def test_forgeries_of_settings_are_refused_or_taken(run: Path) -> None:
    """Other settings that one has signed for are read; a model that does not fit them is refused, in bounded memory."""
    text = (run / "config.yaml").read_text().partition("\n")[2]
    for old, new in (
        ("num_layers: 2", "num_layers: 1"),
        ("num_layers: 2", "num_layers: 2000000000"),
        ("hidden_size: 8", "hidden_size: 9"),
        ("hidden_size: 8", "hidden_size: 9000000000000000000"),
        ("embedding_size: 5", "embedding_size: 9000000000000000000"),
        ("cell: lstm", "cell: gru"),
        ("batch_size: 3", "batch_size: 4"),
        ("batch_size: 3", "batch_size: 9000000000000000000"),
        ("unit: char", "unit: byte"),
        ("bidirectional: false", "bidirectional: true"),
    ):
        assert old in text
        (run / "config.yaml").write_text(text.replace(old, new))
        assert refused(run), new


# Through the command line, with little memory


@pytest.mark.parametrize("share", [pytest.param(1, marks=pytest.mark.long), 9], ids=["long", "quick"])
def test_forgeries_of_the_progress_do_not_disturb_the_commands_that_read(
    run: Path, forks: Forks, tmp_path: Path, tell: Callable[[str], None], share: int
) -> None:
    """What they do not read they may pass over; what they read they refuse, or find right."""
    progress = json.loads((run / LATEST / "progress.json").read_bytes())
    codes: Counter[int] = Counter()
    for name in [*SCALARS][::share]:
        forge(run, "progress.json", SCALARS[name](progress))
        for command in (["sample", "--run", str(run), "--length", "5", "--seed", "1"], ["eval", "--run", str(run)]):
            end = forks.run(command, cwd=tmp_path)
            codes[end.code] += 1
            assert end.code in (0, RunError.exit_code), (name, end)
            assert end.code == 0 or (end.out, end.err.count("\n")) == ("", 1), (name, end)
    tell(f"{codes.total()} readings of a forged progress: {codes[RunError.exit_code]} refused, {codes[0]} read")


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("model.safetensors", "a header of a gigabyte"),
        ("model.safetensors", "absurd and empty"),
        ("training.safetensors", "absurd"),
        ("training.safetensors", "megabytes of header"),
        ("progress.json", "megabytes"),
    ],
)
def test_forgeries_are_refused_by_the_commands_in_bounded_memory(
    run: Path, forks: Forks, tmp_path: Path, file: str, what: str
) -> None:
    original = (run / LATEST / file).read_bytes()
    change = FORGERIES[file][what] if file in FORGERIES else lambda data: SCALARS[what](json.loads(data))
    forge(run, file, change(original))
    shutil.rmtree(run / "checkpoints" / "step-00000004")
    shutil.rmtree(run / "checkpoints" / "step-00000005")
    before = contents(run)
    commands = [["train", "--resume", str(run)]]
    if file != "training.safetensors":
        commands += [["sample", "--run", str(run), "--length", "5"], ["eval", "--run", str(run)]]
    for command in commands:
        end = forks.run(command, cwd=tmp_path, more_memory_bytes=200 << 20)
        assert (end.code, end.out, end.err.count("\n")) == (RunError.exit_code, "", 1), end
        assert contents(run) == before


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
