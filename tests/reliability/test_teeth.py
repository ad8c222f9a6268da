"""The sweeps have teeth: each promise, broken on purpose in a copy of the program, turns one of them red."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Break(NamedTuple):
    """One edit of a file of the package, and the test that must notice it."""

    file: str
    right: str
    wrong: str
    noticed_by: str


FLIPS = "test_damage.py::test_damage_of_one_bit_is_never_silent"
SAVES = "test_faults.py::test_faults_at_every_call_of_a_save_harm_nothing"
KILLS = "test_kills.py::test_kills_at_every_call_and_in_the_middle_of_every_write"
RESUMES = "test_resumes.py::test_resumes_at_every_step_end_with_the_same_bits"
OTHERS = "test_resumes.py::test_resumes_of_other_settings_end_with_the_same_bits"
FORGERIES = "test_damage.py::test_forgeries_of_arrays_are_refused"

BREAKS = {
    "checksums not compared": Break(
        "runs/checkpoints.py", "or hashlib.sha256(data).hexdigest() != entry.sha256", "or not entry.sha256", FLIPS
    ),
    "pointers not sealed": Break(
        "runs/checkpoints.py",
        "if pointed.seal is not None and pointed.seal !=",
        "if pointed.seal == '' and pointed.seal !=",
        "test_damage.py::test_damage_of_another_kind_is_never_silent",
    ),
    "settings not sealed": Break(
        "runs/folder.py", "and seal + newline != _seal(lines)", "and seal == _seal(lines)", FLIPS
    ),
    "files written in their place": Break(
        "files.py", "unfinished = final.with_name(UNFINISHED + final.name)", "unfinished = final", KILLS
    ),
    "pointers written in their place": Break(
        "files.py", "unfinished = path.with_name(UNFINISHED + path.name)", "unfinished = path", SAVES
    ),
    "old ones removed before the new pointer": Break(
        "runs/checkpoints.py",
        '        _point(run, "latest", name)\n        if is_best',
        '        _remove_old(run, name)\n        _point(run, "latest", name)\n        if is_best',
        SAVES,
    ),
    "the best rotated out": Break("runs/checkpoints.py", "[-KEPT_LATEST:], best}", "[-KEPT_LATEST:]}", SAVES),
    "left-overs kept": Break(
        "runs/folder.py", "                remove(left_over)", "                left_over.exists()", KILLS
    ),
    "metrics not cut back": Break(
        "cli/train.py", 'runs.cut_metrics(run, progress["step"])', "progress.copy()", "test_kills.py"
    ),
    "a failed save not retried": Break(
        "cli/record.py",
        "            if must:\n                raise",
        "            raise",
        "test_faults.py::test_faults_once_in_a_training_are_made_up_for",
    ),
    "a failed write not noticed": Break(
        "files.py",
        "        file.write(data)\n        file.flush()",
        "        from contextlib import suppress\n\n        with suppress(OSError):\n"
        "            file.write(data)\n        file.flush()",
        SAVES,
    ),
    "Adam's moments forgotten": Break(
        "training/trainer.py", "self.optimizer.state[parameters[name]][kind] = value", "value.clone()", RESUMES
    ),
    "the hidden state forgotten": Break(
        "training/trainer.py", "if hidden else None", "if not hidden else None", RESUMES
    ),
    "dropout not a function of the step": Break(
        "training/trainer.py", "1_000_003 + step)", "1_000_003)", "../training/test_trainer.py"
    ),
    "the best so far forgotten": Break(
        "training/trainer.py",
        "        self.progress = restored",
        "        self.progress = replace(restored, best_loss=None)",
        OTHERS,
    ),
    "training arrays not checked": Break(
        "training/trainer.py", "self._check_training(training, restored.step)", "restored.step", FORGERIES
    ),
    "files of any length read": Break(
        "files.py",
        "if max_bytes is not None and size > max_bytes:",
        "if max_bytes is not None and size > max_bytes * 10**9:",
        "test_damage.py::test_damage_of_a_gigabyte_is_refused_by_the_commands_in_bounded_memory",
    ),
    "no way back to an older checkpoint": Break(
        "runs/checkpoints.py",
        "    for name in reversed(checkpoint_names(run)):",
        "    for name in ():",
        "test_damage.py::test_damage_of_the_latest_is_fallen_back_from",
    ),
    "a text not read a second time": Break(
        "text/corpus.py",
        "if again.hexdigest() != fingerprint:",
        "if not again.hexdigest():",
        "test_bad_texts.py::test_bad_texts_that_grow_while_they_are_read_are_refused",
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", BREAKS)
def test_teeth_of_the_sweeps(name: str, tmp_path: Path) -> None:
    broken = BREAKS[name]
    for part in ("charlstm", "tests", "configs", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, tmp_path / part)
    path = tmp_path / "charlstm" / broken.file
    source = path.read_text()
    assert source.count(broken.right) == 1, f"{broken.file} no longer has this once: {broken.right}"
    path.write_text(source.replace(broken.right, broken.wrong))
    end = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/reliability/{broken.noticed_by}"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    # red, or killed by what was let in: torch's fused Adam writes beyond moments that are too short
    assert end.returncode in (pytest.ExitCode.TESTS_FAILED, -signal.SIGSEGV), end.stdout[-2000:]
