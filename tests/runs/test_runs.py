"""Runs: what is read is what was written or an error, and at every moment the pointers name whole checkpoints.

Letters: `V` vocabulary, `E` embedding, `H` hidden, `L` layers, `B` lanes.
"""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlstm.errors import CharLSTMError, InputOutputError, RunError
from charlstm.files import UNFINISHED
from charlstm.runs.checkpoints import (
    KEPT_LATEST,
    Checkpoint,
    checkpoint_names,
    read_checkpoint,
    read_checkpoint_named,
    read_newest_whole,
    save_checkpoint,
)
from charlstm.runs.folder import (
    Run,
    append_metrics,
    create_run,
    cut_metrics,
    find_run,
    mark_newest,
    only_writer,
    open_run,
    rewrite_settings,
)
from charlstm.settings import ModelSettings, Settings, TrainingSettings
from charlstm.text.vocabulary import Vocab
from charlstm.weights import weight_shapes

E, H, L, B = 3, 2, 1, 4
MODEL = ModelSettings(embedding_size=E, hidden_size=H, num_layers=L)
SETTINGS = Settings(model=MODEL, training=TrainingSettings(batch_size=B, max_steps=9))
VOCAB = Vocab(unit="char", symbols=tuple("\nabé→"), unknown="error", newline="keep", has_unknown_symbol=False)
FILES = ("model.safetensors", "training.safetensors", "progress.json", "manifest.json")


@pytest.fixture(autouse=True)
def in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "fsync", os.fstat)  # that it is called is seen below; no test here pulls the plug


@pytest.fixture
def run() -> Run:
    return create_run(None, SETTINGS, VOCAB, name="house")  # in runs/house


def contents(step: int, take: int = 0) -> dict[str, Any]:
    """What a trainer would have after a step: other numbers for each, and for each time that it is taken."""
    rng = np.random.default_rng((step, take))
    weights = {
        name: rng.normal(size=shape).astype(np.float32) for name, shape in weight_shapes(MODEL, VOCAB.size).items()
    }
    training = {f"exp_avg.{name}": rng.normal(size=array.shape).astype(np.float32) for name, array in weights.items()}
    training["step.output.bias"] = np.array(step, dtype=np.float32)
    training["state.h"] = rng.normal(size=(L, B, H)).astype(np.float32)
    return {
        "weights": weights,
        "training": training,
        "progress": {"step": step, "seconds": 0.1 * take, "best_loss": None, "text_sha256": "é"},
    }


def save(run: Run, step: int, *, is_best: bool = False, take: int = 0) -> Path:
    return save_checkpoint(run, step=step, **contents(step, take), is_best=is_best)


def holds(checkpoint: Checkpoint, step: int) -> bool:
    """Whether a checkpoint is, bit for bit, what `save` wrote at this step."""
    expected = contents(step, take=round(10 * checkpoint.progress["seconds"]))
    arrays = [(checkpoint.weights, expected["weights"]), (checkpoint.training, expected["training"])]
    return checkpoint.progress == expected["progress"] and all(
        found.keys() == wanted.keys()
        and all(
            (found[name].dtype, found[name].shape, found[name].tobytes())
            == (wanted[name].dtype, wanted[name].shape, wanted[name].tobytes())
            for name in wanted
        )
        for found, wanted in arrays
    )


def step_of(run: Run, pointer: str) -> int:
    """The step of the checkpoint that a pointer names, which must be whole."""
    checkpoint = read_checkpoint(run, pointer)  # type: ignore[arg-type]
    step = int(checkpoint.name.removeprefix("step-"))
    assert holds(checkpoint, step)
    return step


def whole_steps(run: Run) -> set[int]:
    """The steps of all the run's checkpoints, each of which must be whole."""
    found = {int(name.removeprefix("step-")): read_checkpoint_named(run, name) for name in checkpoint_names(run)}
    assert all(holds(checkpoint, step) for step, checkpoint in found.items())
    return set(found)


def steps_kept(run: Run) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in run.checkpoints.iterdir())


def leftovers(run: Run) -> list[Path]:
    return [path for path in run.folder.rglob("*") if path.name.startswith(UNFINISHED)]


# What is written is what is read


def test_runs_read_back_bit_for_bit_what_was_written(run: Run) -> None:
    save(run, 7, is_best=True)
    opened = open_run(run.folder)
    assert (opened.settings, opened.vocab) == (SETTINGS, VOCAB)
    assert step_of(opened, "latest") == step_of(opened, "best") == 7
    weights_only = read_checkpoint(opened, "best", model_only=True)
    assert weights_only.training == {}
    assert weights_only.weights.keys() == contents(7)["weights"].keys()


def test_runs_read_back_a_state_without_training_arrays(run: Run) -> None:
    save_checkpoint(run, **{**contents(0), "training": {}}, step=0, is_best=False)
    assert read_checkpoint(run, "latest").training == {}


def test_runs_best_is_the_latest_before_the_first_validation(run: Run) -> None:
    save(run, 3)
    assert step_of(run, "best") == 3
    save(run, 5, is_best=True)
    save(run, 6)
    assert (step_of(run, "best"), step_of(run, "latest")) == (5, 6)


def test_runs_without_a_checkpoint_say_so(run: Run) -> None:
    for pointer in ("best", "latest"):
        with pytest.raises(RunError, match="no checkpoint"):
            read_checkpoint(run, pointer)  # type: ignore[arg-type]


def test_runs_hold_no_pickle(run: Run) -> None:
    save(run, 1, is_best=True)
    for path in run.folder.rglob("*"):
        assert path.is_dir() or b"\x80\x04" not in path.read_bytes()[:2]
    assert {path.name for path in (run.checkpoints / "step-00000001").iterdir()} == set(FILES)


def test_runs_manifest_is_the_sha256_and_size_of_each_file(run: Run) -> None:
    folder = save(run, 1)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    for name, entry in manifest.items():
        data = ((run.folder if name == "vocab.json" else folder) / name).read_bytes()
        assert entry == {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    assert set(manifest) == {*FILES, "vocab.json"} - {"manifest.json"}


# What is not as it was written is refused


def one_sentence(error: Exception) -> bool:
    assert "\n" not in str(error)
    return True


def same_or_refused(folder: Path, step: int) -> bool:
    """Whether the run reads as it was written; if not it must be RunError, in one sentence."""
    try:
        found = read_checkpoint(open_run(folder), "latest")
    except RunError as error:
        return one_sentence(error) and False
    assert holds(found, step)
    return True


@pytest.mark.parametrize("name", [*FILES, "../../vocab.json", "../../latest"])
def test_runs_notice_every_flipped_bit(run: Run, name: str) -> None:
    path = save(run, 3) / name
    whole = path.read_bytes()
    rng = np.random.default_rng(5)
    places = range(len(whole)) if len(whole) < 200 else sorted(rng.choice(len(whole), 200, replace=False))
    same = 0
    for at in places:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        same += same_or_refused(run.folder, 3)
    path.write_bytes(whole)
    assert same_or_refused(run.folder, 3)
    allowed = {"manifest.json": 40, "../../latest": 2}  # white space in one of these says the same
    assert same <= allowed.get(name, 0)


@pytest.mark.parametrize("name", [*FILES, "../../vocab.json"])
def test_runs_notice_every_truncation_and_appendix(run: Run, name: str) -> None:
    path = save(run, 3) / name
    whole = path.read_bytes()
    for length in {*range(0, len(whole), 1 + len(whole) // 100), len(whole) - 1}:
        path.write_bytes(whole[:length])
        assert not same_or_refused(run.folder, 3)
    path.write_bytes(whole + b"\0")
    assert not same_or_refused(run.folder, 3)


@pytest.mark.parametrize("name", [*FILES, "../../vocab.json"])
def test_runs_notice_a_file_that_is_missing_a_folder_or_endless(run: Run, name: str) -> None:
    path = save(run, 3) / name
    path.unlink()
    assert not same_or_refused(run.folder, 3)
    path.mkdir()
    assert not same_or_refused(run.folder, 3)
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(1 << 42)  # 4 TiB of zeros, a hole in the file system
    assert not same_or_refused(run.folder, 3)


def test_runs_notice_files_swapped_within_and_between_checkpoints(run: Run) -> None:
    first, second = save(run, 3), save(run, 4)
    for one, other in [*((first / name, second / name) for name in FILES), (second / FILES[0], second / FILES[1])]:
        kept = one.read_bytes(), other.read_bytes()
        one.write_bytes(kept[1])
        other.write_bytes(kept[0])
        assert not same_or_refused(run.folder, 4)
        one.write_bytes(kept[0])
        other.write_bytes(kept[1])
    assert same_or_refused(run.folder, 4)


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
    "another sum": lying(lambda m: m["model.safetensors"].update(sha256="0" * 64)),
    "a null sum": lying(lambda m: m["model.safetensors"].update(sha256=None)),
    "an extra field": lying(lambda m: m["model.safetensors"].update(path="../../../etc/passwd")),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_runs_refuse_a_manifest_that_is_none_or_lies(run: Run, change: Callable[[bytes], bytes]) -> None:
    path = save(run, 3) / "manifest.json"
    path.write_bytes(change(path.read_bytes()))
    assert not same_or_refused(run.folder, 3)
    (run.folder / "latest").write_text("step-00000003\n")  # a pointer without the manifest's sha256
    assert not same_or_refused(run.folder, 3)


@pytest.mark.parametrize("by_hand", [True, False])
def test_runs_read_nothing_that_an_extra_entry_names(run: Run, by_hand: bool) -> None:
    path = save(run, 3) / "manifest.json"
    extra = lying(lambda m: m.update({"../../../secret": {"sha256": "0" * 64, "bytes": 1}}))
    path.write_bytes(extra(path.read_bytes()))
    if by_hand:  # a pointer that a person wrote does not say which manifest is meant
        (run.folder / "latest").write_text("step-00000003\n")
    assert same_or_refused(run.folder, 3) == by_hand


FORGED = {
    "progress.json": [b"", b"{", b"[1]", b"null", b"\xff", b"[" * 50_000, b'{"step": NaN', b'{"step": ' + b"9" * 9999],
    "model.safetensors": [
        b"",
        b"\xff" * 8,
        b"\x80\x04N.",
        (1 << 60).to_bytes(8, "little") + b"{}",
        b"\x02" + b"\0" * 7,
    ],
    "training.safetensors": [b"", b"\xff" * 8, b"\x80\x04N.", (1 << 60).to_bytes(8, "little") + b"{}"],
}


@pytest.mark.parametrize(("name", "forgery"), [(name, one) for name, many in FORGED.items() for one in many])
def test_runs_refuse_a_forgery_that_its_manifest_vouches_for(run: Run, name: str, forgery: bytes) -> None:
    folder = save(run, 3)
    (folder / name).write_bytes(forgery)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest[name] = {"sha256": sha256(forgery).hexdigest(), "bytes": len(forgery)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (run.folder / "latest").write_text("step-00000003\n")
    assert not same_or_refused(run.folder, 3)


@pytest.mark.parametrize(
    "weights",
    [
        {},
        {"output.bias": np.zeros(2**20, dtype=np.float32)},
        {"output.bias": np.zeros(VOCAB.size, dtype=np.float64)},
        {"output.bias": np.full(VOCAB.size, np.nan, dtype=np.float32)},
        {"extra": np.zeros(1, dtype=np.float32)},
    ],
)
def test_runs_refuse_weights_that_are_not_the_settings_model(run: Run, weights: dict[str, np.ndarray]) -> None:
    given = contents(3)
    given["weights"] = {**given["weights"], **weights} if weights else {}
    save_checkpoint(run, step=3, **given, is_best=False)
    assert not same_or_refused(run.folder, 3)


@pytest.mark.parametrize(
    "name",
    ["../../x", "../step-00000003", "/etc", "", ".", "step-3", "step-0000000x", "step-00000003/..", "step-00000009"],
)
@pytest.mark.parametrize("pointer", ["latest", "best"])
def test_runs_refuse_a_pointer_to_anything_but_a_checkpoint(run: Run, name: str, pointer: str) -> None:
    shutil.copytree(save(run, 3, is_best=True), run.folder.parent / "x")
    (run.folder / pointer).write_text(f"{name}\n")
    refusal = "could not read" if name == "step-00000009" else "which is no checkpoint"
    with pytest.raises(RunError, match=refusal):
        read_checkpoint(run, pointer)  # type: ignore[arg-type]


def test_runs_refuse_a_pointer_of_other_bytes_and_go_on_saving(run: Run) -> None:
    save(run, 3, is_best=True)
    for pointer in ("latest", "best"):
        (run.folder / pointer).write_bytes(b"\xff\xfe")
        with pytest.raises(RunError):
            read_checkpoint(run, pointer)  # type: ignore[arg-type]
    save(run, 4)
    assert step_of(run, "latest") == 4


@pytest.mark.parametrize("missing", ["config.yaml", "vocab.json"])
def test_runs_are_only_what_has_settings_and_a_vocabulary(run: Run, missing: str) -> None:
    (run.folder / missing).unlink()
    with pytest.raises(RunError, match=missing.replace(".", r"\.")):
        open_run(run.folder)


def test_runs_fall_back_to_the_newest_whole_checkpoint_and_say_what_was_wrong(run: Run) -> None:
    save(run, 3)
    damaged = save(run, 4) / "model.safetensors"
    assert read_newest_whole(run)[1] == []
    damaged.write_bytes(damaged.read_bytes()[:-1])
    found, damage = read_newest_whole(run)
    assert holds(found, 3)
    assert "step-00000004" in str(damage[0])
    (run.checkpoints / "step-00000003" / "progress.json").unlink()
    with pytest.raises(RunError, match="step-00000004"):
        read_newest_whole(run)


# What is kept


def test_runs_keep_the_last_ones_and_the_best(run: Run) -> None:
    for step in range(1, 9):
        save(run, step, is_best=step in (1, 3))
        best = 1 if step < 3 else 3
        assert step_of(run, "latest") == step
        assert step_of(run, "best") == best
        assert steps_kept(run) == sorted({best, *range(max(1, step - KEPT_LATEST + 1), step + 1)})
    assert KEPT_LATEST >= 2
    assert leftovers(run) == []


def test_runs_that_went_back_keep_what_they_write_now(run: Run) -> None:
    """A pointer set back by hand, or a fall-back behind damaged checkpoints: what is ahead belongs to another past."""
    for step in (10, 20, 30, 40):
        save(run, step, is_best=step == 30)
    (run.folder / "latest").write_text("step-00000030\n")
    for step in (31, 32, 33):
        save(run, step)
        assert step_of(run, "latest") == step
        assert step_of(run, "best") == 30
        names = steps_kept(run)
        assert set(range(31, step + 1)[-2:]) <= set(names)
    assert 40 not in steps_kept(run)


def test_runs_may_save_a_step_again(run: Run) -> None:
    save(run, 3, is_best=True)
    (run.checkpoints / "step-00000003" / "model.safetensors").write_bytes(b"damaged")
    save(run, 3)
    assert step_of(run, "latest") == step_of(run, "best") == 3
    assert leftovers(run) == []


def test_runs_leave_alone_what_is_not_theirs(run: Run) -> None:
    mine = save(run, 1, is_best=True)
    backup = run.checkpoints / "step-00000001-backup"
    shutil.copytree(mine, backup)
    (run.checkpoints / "step-notes.txt").write_text("mine")
    for step in (2, 3, 4, 5):
        save(run, step)
    assert (backup / "model.safetensors").exists()
    assert (run.checkpoints / "step-notes.txt").read_text() == "mine"
    assert step_of(run, "latest") == 5


# New runs


def test_runs_never_overwrite_and_number_a_taken_name() -> None:
    made = [create_run(None, SETTINGS, VOCAB, name="house") for _ in range(3)]
    folders = [one.folder for one in made]
    mark_newest(made[2])
    assert folders == [Path("runs/house"), Path("runs/house-2"), Path("runs/house-3")]
    assert find_run(None) == Path("runs/house-3")
    assert find_run(Path("elsewhere")) == Path("elsewhere")


@pytest.mark.parametrize("taken", ["file", "folder"])
def test_runs_refuse_a_named_folder_that_holds_something(taken: str) -> None:
    if taken == "file":
        Path("mine").write_text("precious")
    else:
        Path("mine").mkdir()
        Path("mine/precious").write_text("precious")
    before = sorted(Path().rglob("*"))
    with pytest.raises(RunError, match="mine"):
        create_run(Path("mine"), SETTINGS, VOCAB, name="unused")
    assert sorted(Path().rglob("*")) == before


def test_runs_take_a_named_folder_that_is_empty_or_not_there_and_the_newest_is_found() -> None:
    Path("empty").mkdir()
    for folder in (Path("empty"), Path("deep/er")):
        run = create_run(folder, SETTINGS, VOCAB, name="unused")
        assert run.folder == folder
        mark_newest(run)
        assert find_run(None).resolve() == folder.resolve()
        assert open_run(find_run(None)).vocab == VOCAB


def test_runs_newest_is_named_even_from_an_absolute_path(tmp_path: Path) -> None:
    mark_newest(create_run(tmp_path / "far" / "away", SETTINGS, VOCAB, name="unused"))
    assert find_run(None).resolve() == (tmp_path / "far" / "away").resolve()


def test_runs_without_any_say_so() -> None:
    with pytest.raises(RunError, match="charlstm train"):
        find_run(None)
    with pytest.raises(RunError, match="not a run folder"):
        open_run(Path("nowhere"))


def test_runs_rewrite_their_settings(run: Run) -> None:
    longer = Settings(model=MODEL, training=TrainingSettings(batch_size=B, max_steps=99))
    assert rewrite_settings(run, longer).settings == longer
    assert open_run(run.folder).settings == longer


# One writer


def test_runs_have_one_writer(run: Run) -> None:
    with only_writer(run):
        with pytest.raises(RunError, match="another process"), only_writer(open_run(run.folder)):
            pass
        program = (
            "import sys; from pathlib import Path; from charlstm.runs import folder as runs\n"
            "with runs.only_writer(runs.open_run(Path(sys.argv[1]))): pass"
        )
        second = subprocess.run(
            [sys.executable, "-c", program, str(run.folder.absolute())],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        assert "RunError" in second.stderr
        save(run, 1)  # the first is not disturbed
    with only_writer(run):
        pass


def test_runs_writer_clears_what_a_killed_one_left(run: Run) -> None:
    save(run, 3)
    (run.checkpoints / f"{UNFINISHED}step-00000004").mkdir()
    (run.checkpoints / f"{UNFINISHED}step-00000004" / "model.safetensors").write_bytes(b"half")
    (run.checkpoints / f"{UNFINISHED}removed-step-00000001").mkdir()
    (run.folder / f"{UNFINISHED}latest").write_text("st")
    with only_writer(run):
        assert leftovers(run) == []
        assert step_of(run, "latest") == 3


# Metrics


def metrics(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_bytes().split(b"\n") if line]


def test_runs_metrics_are_cut_back_to_a_step(run: Run) -> None:
    cut_metrics(run, 3)  # there are none yet
    lines = [{"step": step, "loss": 1.5 / step, "note": "é\u2028\r"} for step in range(1, 8)]
    for line in lines:
        append_metrics(run, line)
    assert metrics(run) == lines
    cut_metrics(run, 5)
    assert metrics(run) == lines[:5]
    append_metrics(run, lines[5])
    assert metrics(run) == lines[:6]
    cut_metrics(run, 0)
    assert metrics(run) == []


@pytest.mark.parametrize(
    "torn", [b'{"step": 3, "lo', b'{"step": 3}', b"\xff\xfe", b"[]", b"7", b'{"step": "x"}\n', b"[" * 50_000]
)
def test_runs_metrics_survive_a_line_that_was_cut_short(run: Run, torn: bytes) -> None:
    for step in (1, 2):
        append_metrics(run, {"step": step})
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(torn)
    cut_metrics(run, 3)
    append_metrics(run, {"step": 4})
    complete = [{"step": 3}] if torn == b'{"step": 3}' else []
    assert metrics(run) == [{"step": 1}, {"step": 2}, *complete, {"step": 4}]


# Faults


class Killed(BaseException):
    """The process ends here: nothing catches it."""


class Faults:
    """Makes the n-th call that touches the disk fail. A write that fails has written half of what it was given."""

    def __init__(self, fail_at: int, fault: BaseException) -> None:
        self.calls, self.fail_at, self.fault = 0, fail_at, fault

    def count(self) -> None:
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.fault

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **rest: Any) -> Any:
            self.count()
            return call(*args, **rest)

        return wrapped

    def open(self, path: Path, mode: str = "r", *args: Any, **rest: Any) -> Any:
        if "w" not in mode and "a" not in mode:
            return PATH_OPEN(path, mode, *args, **rest)
        self.count()
        file = PATH_OPEN(path, mode, *args, **rest)
        return _HalfWriter(file, self)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "open", lambda *args, **rest: self.open(*args, **rest))
            for name in ("rename", "replace", "mkdir", "unlink"):
                patch.setattr(Path, name, self.before(getattr(Path, name)))
            for name in ("fsync", "open"):
                patch.setattr(os, name, self.before(getattr(os, name)))
            patch.setattr(shutil, "rmtree", self.half_rmtree)
            yield

    def half_rmtree(self, path: Path) -> None:
        """Removes file by file, each of which may fail."""
        for entry in sorted(path.iterdir()):
            self.count()
            os.unlink(entry)
        self.count()
        os.rmdir(path)


class _HalfWriter:
    def __init__(self, file: Any, faults: Faults) -> None:
        self.file, self.faults = file, faults

    def write(self, data: Any) -> int:
        try:
            self.faults.count()
        except BaseException:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise
        return int(self.file.write(data))

    def __enter__(self) -> "_HalfWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


PATH_OPEN = Path.open
FAULTS: dict[str, Callable[[], BaseException]] = {
    "disk full": lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    "input/output error": lambda: OSError(errno.EIO, os.strerror(errno.EIO)),
    "killed": Killed,
}


def each_fault(make_fault: Callable[[], BaseException], act: Callable[[], object]) -> Iterator[int]:
    """Do something with its first, second, … call to the disk failing, until it succeeds; yields after each fault."""
    n = 0
    while True:
        n += 1
        faults = Faults(n, make_fault())
        with faults.at_work():
            try:
                act()
            except Killed:
                pass
            except InputOutputError as error:
                one_sentence(error)
        if faults.calls < n:
            return
        yield n


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("is_best", [True, False])
def test_runs_every_fault_of_a_save_leaves_whole_checkpoints(
    make_fault: Callable[[], BaseException], is_best: bool, tmp_path: Path
) -> None:
    original = create_run(tmp_path / "original", SETTINGS, VOCAB, name="unused")
    for saved in (11, 12, 13):
        save(original, saved, is_best=saved == 11)
    copy = Run(tmp_path / "copy", SETTINGS, VOCAB)
    shutil.copytree(original.folder, copy.folder)
    count = 0
    for _ in each_fault(make_fault, lambda: save(copy, 14, is_best=is_best)):
        count += 1
        assert step_of(copy, "latest") in (13, 14)
        assert step_of(copy, "best") in (11, 14)
        assert whole_steps(copy) >= {13, step_of(copy, "latest"), step_of(copy, "best")}
        with only_writer(copy):  # the next start
            assert leftovers(copy) == []
        assert step_of(copy, "latest") in (13, 14)
        assert step_of(copy, "best") in (11, 14)
        save(copy, 15)
        assert step_of(copy, "latest") == 15
        assert leftovers(copy) == []
        shutil.rmtree(copy.folder)
        shutil.copytree(original.folder, copy.folder)
    assert count > 20
    assert (step_of(copy, "latest"), step_of(copy, "best")) == (14, 14 if is_best else 11)


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS.keys())
def test_runs_every_fault_of_a_save_of_a_run_that_went_back(
    make_fault: Callable[[], BaseException], tmp_path: Path
) -> None:
    """The best checkpoint is of a step that is trained anew."""
    original = create_run(tmp_path / "original", SETTINGS, VOCAB, name="unused")
    for saved in (11, 12, 13):
        save(original, saved, is_best=saved == 13)
    (original.folder / "latest").write_text("step-00000012\n")
    copy = Run(tmp_path / "copy", SETTINGS, VOCAB)
    shutil.copytree(original.folder, copy.folder)
    for _ in each_fault(make_fault, lambda: save(copy, 13, take=2)):
        assert step_of(copy, "latest") in (12, 13)
        with only_writer(copy):
            assert leftovers(copy) == []
        assert step_of(copy, "latest") in (12, 13)
        assert whole_steps(copy) == {12, 13}
        with suppress(RunError):  # the one it was has been replaced, and the pointer still means that one
            assert step_of(copy, "best") == 13
        save(copy, 13, take=3)
        assert step_of(copy, "latest") == step_of(copy, "best") == 13
        shutil.rmtree(copy.folder)
        shutil.copytree(original.folder, copy.folder)
    assert step_of(copy, "latest") == step_of(copy, "best") == 13


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS.keys())
def test_runs_can_be_read_after_every_fault_of_a_save_without_a_new_start(
    make_fault: Callable[[], BaseException], tmp_path: Path
) -> None:
    run = create_run(tmp_path / "run", SETTINGS, VOCAB, name="unused")
    save(run, 1, is_best=True)
    step = 1

    def next_save() -> None:
        save(run, step + 1, is_best=step % 2 == 0)

    for step in each_fault(make_fault, next_save):
        assert step_of(run, "latest") in range(1, step + 2)
        assert step_of(run, "best") in range(1, step + 2)
    assert step_of(run, "latest") == step + 1


@pytest.mark.parametrize("make_fault", FAULTS.values(), ids=FAULTS.keys())
def test_runs_every_fault_of_other_writes_leaves_the_old_or_the_new(
    make_fault: Callable[[], BaseException], run: Run
) -> None:
    path = run.folder / "metrics.jsonl"
    lines = b"".join(b'{"step": %d}\n' % step for step in range(1, 5))
    longer = Settings(model=MODEL, training=TrainingSettings(batch_size=B, max_steps=99))
    path.write_bytes(lines)
    for _ in each_fault(make_fault, lambda: cut_metrics(run, 2)):
        assert path.read_bytes() in (lines, lines[: len(lines) // 2])
        path.write_bytes(lines)
    for _ in each_fault(make_fault, lambda: rewrite_settings(run, longer)):
        assert open_run(run.folder).settings in (SETTINGS, longer)
        rewrite_settings(run, SETTINGS)


def test_runs_in_a_folder_that_is_gone_fail_in_one_sentence(run: Run) -> None:
    shutil.rmtree(run.folder)
    for act in (
        lambda: save(run, 3),
        lambda: append_metrics(run, {"step": 1}),
        lambda: rewrite_settings(run, SETTINGS),
    ):
        with pytest.raises(InputOutputError, match=r"could not write .*house") as caught:
            act()
        assert "\n" not in str(caught.value)
    with pytest.raises(CharLSTMError), only_writer(run):
        pass


# The system


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_runs_modes_follow_the_umask(umask: int) -> None:
    before = os.umask(umask)
    try:
        run = create_run(None, SETTINGS, VOCAB, name="house")
        save(run, 1, is_best=True)
        append_metrics(run, {"step": 1})
        cut_metrics(run, 1)
    finally:
        os.umask(before)
    for path in [run.folder, *run.folder.rglob("*")]:
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_runs_flush_every_file_before_the_name_that_shows_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rename comes after the flush of what it renames, and is followed by that of the folder it happened in."""
    events: list[tuple[str, str]] = []
    sync, rename, replace = os.fsync, Path.rename, Path.replace

    def named(handle: int) -> str:
        return os.readlink(f"/proc/self/fd/{handle}")

    monkeypatch.setattr(os, "fsync", lambda handle: (events.append(("flush", named(handle))), sync(handle))[1])
    for name, real in (("rename", rename), ("replace", replace)):

        def moved(path: Path, target: Path, real: Any = real) -> Path:
            events.append(("move", str(path.absolute())))
            return real(path, target)

        monkeypatch.setattr(Path, name, moved)
    save(run, 3, is_best=True)
    unfinished = str(run.checkpoints.absolute() / f"{UNFINISHED}step-00000003")
    flushed = [name for event, name in events if event == "flush"]
    first_move = events.index(("move", unfinished))
    assert {name for _, name in events[:first_move]} == {unfinished, *(f"{unfinished}/{name}" for name in FILES)}
    assert events[first_move + 1] == ("flush", str(run.checkpoints.absolute()))
    for at, (event, name) in enumerate(events):
        if event == "move" and "step" not in name:
            assert events[at - 1] == ("flush", name)
            assert events[at + 1] == ("flush", str(run.folder.absolute()))
    assert len(flushed) == len(FILES) + 2 + 2 * 2
    assert checkpoint_names(run) == ["step-00000003"]
