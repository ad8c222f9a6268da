"""The command line as a user meets it: what it says and where, how it ends, and that what it was told holds.

Most of it runs in this process; pipes, signals and closed streams need real ones.
"""

import fcntl
import io
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from charlstm import files as durable
from charlstm.cli import app
from charlstm.cli.record import Log
from charlstm.cli.report import Report
from charlstm.evaluation.evaluate import Tally
from charlstm.runs import checkpoints
from charlstm.runs import folder as runs

DATA = Path(__file__).parents[2] / "data"
TINY = """\
data: {{sources: [{text}], split: {split}}}
model: {{embedding_size: 5, hidden_size: 8, num_layers: 2, dropout: 0.2}}
training:
  batch_size: 4
  sequence_length: 16
  max_steps: {steps}
  warmup_steps: 2
  log_every_steps: 1
  validate_every_steps: 4
  save_every_steps: 3
  precision: fp32
  threads: 1
  device: cpu
"""
STEPS = 12
CYRILLIC = (DATA / "proverbs-ru.txt").read_text()[:2000]
CJK = "日本語の文字、絵文字😀🎉と改行。\n漢字かな交じり文👩‍💻です。\n" * 40


def charlstm(*args: object, stdin: bytes | None = None, expect: int = 0) -> Result:
    """Run a command in this process and in the current folder; it must end with the expected code."""
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
    assert result.exit_code == expect, (args, result.stderr, result.exception)
    return result


def shell(line: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which `charlstm` is this program."""
    program = f'charlstm() {{ {sys.executable} -W error -m charlstm "$@"; }}; {line}'
    return subprocess.run(["bash", "-c", program], cwd=folder, env={**os.environ, **env}, capture_output=True)


def started(folder: Path, *args: str) -> subprocess.Popen[bytes]:
    """A training in a process of its own, once it has taken a step."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "charlstm", "train", *args, "--run", "run"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (folder / "run" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.005)
    return process


def write_settings(folder: Path, text: str | bytes, *, steps: int = STEPS, split: str = "[0.8, 0.1, 0.1]") -> Path:
    """A text, and settings for a run on it that takes no time."""
    (folder / "text.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    (folder / "tiny.yaml").write_text(TINY.format(text="text.txt", steps=steps, split=split))
    return folder / "tiny.yaml"


def ending(run: Path) -> tuple[Any, ...]:
    """What a training leaves but for the clock: the bits of both checkpoints and the metrics."""
    clock = {"seconds", "chars_per_second"}
    opened = runs.open_run(run)
    bits = []
    for which in ("latest", "best"):
        found = checkpoints.read_checkpoint(opened, which)
        arrays = {name: array.tobytes() for name, array in (*found.weights.items(), *found.training.items())}
        scalars = {name: value for name, value in found.progress.items() if "seconds" not in name}
        bits.append((found.name, arrays, scalars))
    return *bits, [{name: value for name, value in line.items() if name not in clock} for line in metrics(run)]


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A folder with a text, settings and a finished run, to copy or to read."""
    folder = tmp_path_factory.mktemp("workshop")
    write_settings(folder, (DATA / "the-tide-clock.txt").read_text()[:6000])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLSTM_CACHE", str(session_cache))
        charlstm("train", "tiny.yaml")
    return folder


@pytest.fixture(autouse=True)
def here(workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the workshop, as the current folder."""
    folder = tmp_path / "here"
    shutil.copytree(workshop, folder)
    monkeypatch.chdir(folder)
    return folder


# mistakes


def damage(folder: Path) -> None:
    file = folder / "runs/tiny/checkpoints" / f"step-{STEPS:08d}" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    for model in (folder / "runs/tiny/checkpoints").glob("*/model.safetensors"):
        model.write_bytes(data)


def prepare_bad_files(folder: Path) -> None:
    (folder / "empty.txt").touch()
    (folder / "short.txt").write_text("hello\n")
    (folder / "latin.txt").write_bytes(b"abc\nd\xe9f\n" * 300)
    (folder / "misspelt.yaml").write_text("training:\n  max_stepps: 3\n")
    (folder / "section.yaml").write_text("trainig: {max_steps: 3}\n")
    shutil.copytree(folder / "runs", folder / "bad/runs")
    damage(folder / "bad")


SAMPLE, TRAIN = ["sample"], ["train", "tiny.yaml", "--run", "new"]
MISTAKES: list[tuple[list[str], int, str]] = [
    (["trian"], 2, "Did you mean 'train'"),
    (["train", "tiny.yaml", "--nope"], 2, "no such option: --nope"),
    (["train", "tiny.yaml", "extra"], 2, "unexpected extra argument"),
    (["config", "nope"], 2, "no such command 'nope'"),
    (["train", "nope.yaml"], 2, "nope.yaml: the settings cannot be read: No such file"),
    (["train", "."], 2, "Is a directory"),
    (["train", "misspelt.yaml"], 2, "misspelt.yaml:2: training.max_stepps is not a setting; did you mean"),
    (["train", "section.yaml"], 2, "section.yaml:1: trainig is not a setting; did you mean training?"),
    ([*TRAIN, "--set", "training.max_steps=0"], 2, "an integer of at least 1"),
    ([*TRAIN, "--set", "training.max_steps"], 2, "has no ="),
    ([*TRAIN, "--set", "training.learning_rate=nan"], 2, "training.learning_rate"),
    ([*TRAIN, "--set", "data.sources=nope.txt"], 3, "there is no file or folder 'nope.txt'"),
    ([*TRAIN, "--set", "data.sources=empty.txt"], 3, "the text is empty ('empty.txt')"),
    ([*TRAIN, "--set", "data.sources=short.txt"], 3, "need at least 65"),
    ([*TRAIN, "--set", "data.sources=latin.txt"], 3, "line 2 (0xe9)"),
    ([*TRAIN, "--set", "data.sources=-"], 3, "the text is empty"),
    ([*TRAIN, "--set", "training.batch_size=999999"], 3, "training.batch_size"),
    (["train", "tiny.yaml", "--run", "runs/tiny"], 4, "runs/tiny is not empty"),
    (["train", "tiny.yaml", "--run", "text.txt"], 4, "text.txt is not empty"),
    (["train", "tiny.yaml", "--run", "text.txt/run"], 6, "Not a directory"),
    (["train", "tiny.yaml", "--resume", "runs/tiny"], 2, "leave CONFIG, --run and --init-from out"),
    (["train", "--resume", "nope"], 4, "nope is not a run folder"),
    (["train", "--resume", "."], 4, "is not a run folder"),
    (["train", "--resume", "runs/tiny", "--set", "model.hidden_size=9"], 2, "differs from 8"),
    (["train", "--resume", "runs/tiny", "--set", "training.seed=2"], 2, "start a new run"),
    (["train", "--resume", "bad/runs/tiny", "--set", "training.max_steps=99"], 4, "damaged"),
    ([*SAMPLE, "--temp", "nan"], 2, "--temp: sampling.temperature is not a number"),
    ([*SAMPLE, "--temp", "inf"], 2, "--temp"),
    ([*SAMPLE, "--temp", "-1"], 2, "must be a number of at least 0"),
    ([*SAMPLE, "--temp", "hot"], 2, "'--temp'"),
    ([*SAMPLE, "--top-k", "0"], 2, "--top-k: sampling.top_k is 0"),
    ([*SAMPLE, "--top-k", "1.5"], 2, "'--top-k'"),
    ([*SAMPLE, "--top-p", "0"], 2, "--top-p"),
    ([*SAMPLE, "--top-p", "1.01"], 2, "at most 1"),
    ([*SAMPLE, "--length", "-1"], 2, "--length"),
    ([*SAMPLE, "--samples", "0"], 2, "'--samples'"),
    ([*SAMPLE, "--seed", "-1"], 2, "'--seed'"),
    ([*SAMPLE, "--samples", "2", "--length", "0"], 2, "--length 0 never ends"),
    ([*SAMPLE, "--json", "--length", "0"], 2, "--length 0 never ends"),
    ([*SAMPLE, "--set", "model.hidden_size=3"], 2, "only sampling"),
    ([*SAMPLE, "--set", "sampling.top_j=3"], 2, "did you mean"),
    ([*SAMPLE, "--prompt", "Жук"], 3, "'Ж' (U+0416)"),
    ([*SAMPLE, "--prompt", "a\udcffb"], 3, "the prompt is not valid UTF-8 at byte offset 1"),
    ([*SAMPLE, "--prompt", "a", "--prompt-file", "text.txt"], 2, "give one of them"),
    ([*SAMPLE, "--prompt-file", "nope"], 3, "could not read nope: No such file"),
    ([*SAMPLE, "--prompt-file", "."], 3, "Is a directory"),
    ([*SAMPLE, "--stop", "Ж"], 3, "--stop can never be met: 'Ж' (U+0416)"),
    ([*SAMPLE, "--run", "nope"], 4, "nope is not a run folder"),
    ([*SAMPLE, "--run", "bad/runs/tiny"], 4, "damaged"),
    (["eval", "nope"], 3, "there is no file or folder 'nope'"),
    (["eval", "empty.txt"], 3, "empty"),
    (["eval", "-"], 3, "standard input is empty"),
    (["eval", "--split", "foo"], 2, "'foo'"),
    (["eval", "--protocol", "foo"], 2, "'foo'"),
    (["eval", "text.txt", "--split", "val"], 2, "not both"),
    (["eval", "--run", "bad/runs/tiny"], 4, "damaged"),
    (["config", "show", "nope.yaml"], 2, "nope.yaml"),
]


@pytest.mark.parametrize(
    ("args", "code", "told"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_cli_says_a_mistake_in_one_sentence_and_leaves_nothing_behind(
    here: Path, args: list[str], code: int, told: str
) -> None:
    prepare_bad_files(here)
    before = listing(here)
    result = charlstm(*args, stdin=b"", expect=code)
    assert result.stdout_bytes == b""
    assert result.stderr.startswith("charlstm: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert told in result.stderr
    assert listing(here) == before


def test_cli_says_when_there_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for args in (["sample"], ["eval"]):
        assert "there is no run here" in charlstm(*args, expect=4).stderr
    monkeypatch.setenv("CHARLSTM_RUN", "nope")
    assert "nope is not a run folder" in charlstm("sample", expect=4).stderr


def test_cli_takes_extreme_numbers() -> None:
    for option in ("--temp=1e-30", "--temp=1e300", "--top-k=999999999999999999999", "--top-p=1", "--top-p=1e-300"):
        told = json.loads(charlstm("sample", "--length", 30, "--json", option).stdout)
        assert len(told["text"]) == 30


# training


def test_train_tells_where_it_stands_and_how_to_go_on() -> None:
    result = charlstm("train", "tiny.yaml")
    said = result.stderr.splitlines()
    assert result.stdout_bytes == b""
    assert said[-3].startswith(f"training.max_steps reached: {STEPS} steps, {STEPS * 64} characters")
    assert "best val_loss" in said[-2]
    assert "runs/tiny-2" in said[-2]  # the name was taken
    assert said[-1] == "sample with: charlstm sample --run runs/tiny-2 --temp 0.8 --top-k 10"
    header = "\n".join(said)
    for fact in ("text.txt: 6,000 characters", "4,800 to train, 600 to validate", "lstm 2 × 8", "cpu, 1 thread, fp32"):
        assert fact in header
    assert f"until       {STEPS} steps" in header
    assert len([line for line in said if line.startswith("step ") and "val_loss" in line]) == STEPS // 4
    charlstm(*said[-1].split()[3:], "--length", 5)


def test_train_quiet_says_nothing() -> None:
    result = charlstm("train", "tiny.yaml", "--run", "silent", "--quiet")
    assert result.output == ""
    assert charlstm("train", "--resume", "silent", "--quiet").output == ""


def test_train_says_which_characters_became_the_unknown_symbol(here: Path) -> None:
    (here / "rare.txt").write_text("abcd\n" * 200 + "éß")
    told = charlstm("train", "tiny.yaml", "--set", "data.sources=rare.txt", "--set", "data.min_count=2").stderr
    assert "5 characters and the unknown symbol, which stands for 2 characters of the text (0.20%)" in told


def test_train_logs_the_keys_that_are_promised() -> None:
    lines = metrics(Path("runs/tiny"))
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    every = {"step", "chars", "seconds", "loss", "bits_per_char", "learning_rate", "grad_norm", "chars_per_second"}
    validated = {"val_loss", "val_bits_per_char", "val_accuracy"}
    for line in lines:
        assert line.keys() - {"validation_seconds"} == (every | validated if line["step"] % 4 == 0 else every)


def test_train_resume_of_a_finished_run_says_so_and_goes_on_when_a_limit_is_raised(here: Path) -> None:
    assert "has reached training.max_steps already" in charlstm("train", "--resume", "runs/tiny").stderr
    charlstm("train", "--resume", "runs/tiny", "--set", "training.max_steps=15")
    assert (here / "runs/tiny/latest").read_text().startswith("step-00000015")


def test_train_refuses_to_resume_on_another_text(here: Path) -> None:
    charlstm("train", "tiny.yaml", "--run", "again")
    with (here / "text.txt").open("a") as file:
        file.write("more")
    resume = ["train", "--resume", "again", "--set", "training.max_steps=15"]
    assert "has changed" in charlstm(*resume, expect=4).stderr
    (here / "text.txt").unlink()
    assert "there is no file" in charlstm(*resume, expect=3).stderr


@pytest.fixture
def signal_after_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, signal.Signals], None]:
    """Have a signal arrive right after a step; once."""
    log = Log.step

    def arrange(step: int, number: signal.Signals) -> None:
        def interrupted(self: Log, facts: Any) -> None:
            log(self, facts)
            if facts.step == step:
                monkeypatch.setattr(Log, "step", log)
                signal.raise_signal(number)

        monkeypatch.setattr(Log, "step", interrupted)

    return arrange


@pytest.mark.parametrize("step", [1, 4, 7, STEPS - 1])
def test_train_stopped_by_a_signal_and_resumed_ends_with_the_same_bits(
    step: int, signal_after_step: Callable[[int, signal.Signals], None]
) -> None:
    signal_after_step(step, signal.SIGTERM)
    stopped = charlstm("train", "tiny.yaml", "--run", "stopped", expect=143)
    assert stopped.stderr.endswith(f"after step {step}, go on with: charlstm train --resume stopped\n")
    assert Path("stopped/latest").read_text().startswith(f"step-{step:08d}")
    charlstm("train", "--resume", "stopped")
    assert ending(Path("stopped")) == ending(Path("runs/tiny"))


def test_train_that_a_signal_meets_at_its_last_step_is_done(
    signal_after_step: Callable[[int, signal.Signals], None],
) -> None:
    signal_after_step(STEPS, signal.SIGINT)
    assert "sample with" in charlstm("train", "tiny.yaml").stderr


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)]
)
def test_train_in_a_process_saves_at_a_signal_and_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    write_settings(tmp_path, CYRILLIC, steps=120)
    process = started(tmp_path, "tiny.yaml")
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, b""), err.decode()
    assert f"{number.name}: finishing this step and saving" in err.decode()
    assert err.decode().splitlines()[-1].endswith("go on with: charlstm train --resume run")
    monkeypatch.chdir(tmp_path)
    charlstm("train", "--resume", "run", "--quiet")
    charlstm("train", "tiny.yaml", "--run", "whole", "--quiet")
    assert ending(tmp_path / "run") == ending(tmp_path / "whole")


def test_train_leaves_at_a_second_interrupt_and_is_whole() -> None:
    slow_step = "from charlstm.cli.record import Log; import time; Log.step = lambda *_: time.sleep(60)"
    program = f"{slow_step}; from charlstm.__main__ import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, "train", "tiny.yaml", "--run", "left"], stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    while not process.stderr.readline().startswith(b"run "):  # the header's last line
        pass
    time.sleep(0.2)  # and a step of a millisecond
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline().startswith(b"SIGINT: finishing this step and saving")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 130
    charlstm("train", "--resume", "left", "--quiet")
    assert ending(Path("left")) == ending(Path("runs/tiny"))


@pytest.mark.parametrize("delay_seconds", [0.15, 0.4, 0.8])
def test_cli_ends_without_a_traceback_when_interrupted_early(delay_seconds: float) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import charlstm.__main__ as m; print('up', flush=True); m.main()",
            "train",
            "tiny.yaml",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(delay_seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    assert process.returncode in (130, 0)


def test_train_respects_an_ignored_interrupt() -> None:
    program = f"trap '' INT; exec {sys.executable} -m charlstm train tiny.yaml --run deaf"
    process = subprocess.Popen(["bash", "-c", program], stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.readline()  # it is past bash
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    said += process.communicate()[1]
    assert process.returncode == 0, said
    assert b"sample with" in said
    assert b"SIGINT" not in said


def test_train_retries_a_save_that_failed_and_never_points_best_at_a_worse_one(monkeypatch: pytest.MonkeyPatch) -> None:
    save = checkpoints.save_checkpoint
    failures = 0

    def full_disk_at_step_4(run: runs.Run, *, step: int, **state: Any) -> Path:
        nonlocal failures
        if step == 4 and failures < 2:
            failures += 1
            with durable.disk_errors("checkpoint"):
                raise OSError(28, "No space left on device")
        return save(run, step=step, **state)

    losses = iter([2.0, 3.0, 2.5])  # of the validations after steps 4, 8 and 12
    monkeypatch.setattr(checkpoints, "save_checkpoint", full_disk_at_step_4)
    monkeypatch.setattr("charlstm.training.trainer.evaluate", lambda *_args, **_settings: Tally(next(losses), 0, 1))
    said = charlstm("train", "tiny.yaml", "--run", "full").stderr
    assert "No space left on device" in said
    assert "training goes on" in said
    opened = runs.open_run(Path("full"))
    assert failures == 2
    assert checkpoints.read_checkpoint(opened, "best").progress["step"] == 4
    assert checkpoints.read_checkpoint(opened, "latest").progress["step"] == STEPS


def test_train_goes_on_when_metrics_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    append = runs.append_metrics
    calls = 0

    def full_disk_for_a_while(run: runs.Run, facts: Mapping[str, Any]) -> None:
        nonlocal calls
        calls += 1
        if 3 <= calls <= 5:
            with durable.disk_errors("metrics.jsonl"):
                raise OSError(28, "No space left on device")
        append(run, facts)

    monkeypatch.setattr(runs, "append_metrics", full_disk_for_a_while)
    charlstm("train", "tiny.yaml", "--run", "full")
    assert ending(Path("full"))[-1] == ending(Path("runs/tiny"))[-1]


def test_train_that_cannot_save_its_beginning_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_args: object, **_state: object) -> None:
        with durable.disk_errors("checkpoint"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_checkpoint", full_disk)
    before = listing(here)
    assert "No space left" in charlstm("train", "tiny.yaml", expect=6).stderr
    assert listing(here) == before


# any text


@pytest.mark.parametrize(
    ("text", "unit"),
    [(CYRILLIC, "char"), (CJK, "char"), (bytes(range(256)) * 8, "byte"), (CYRILLIC, "byte")],
    ids=["Cyrillic", "CJK and emoji", "binary", "Cyrillic as bytes"],
)
def test_cli_trains_samples_and_evaluates_any_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes, unit: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, text)
    charlstm("train", "tiny.yaml", "--set", f"data.unit={unit}")
    prompt = text[:3] if isinstance(text, str) else "abc"
    sampled = charlstm("sample", "--length", 50, "--prompt", prompt, "--temp", 5, "--set", "sampling.top_k=null")
    body = sampled.stdout_bytes.removeprefix(prompt.encode()).removesuffix(b"\n")
    known = set(text if isinstance(text, str) else [])
    if unit == "char":
        assert len(body.decode()) in (49, 50)  # a text that ends in a newline gets no second one
        assert set(body.decode()) <= known
    else:
        assert len(body) in (49, 50)
    figures = json.loads(charlstm("eval", "text.txt", "--json").stdout)
    assert figures["chars"] == (len(text) if unit == "char" else len((tmp_path / "text.txt").read_bytes())) - 1


def test_cli_trains_resumes_and_evaluates_a_text_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, CYRILLIC)
    text = CYRILLIC.encode()
    charlstm("train", "tiny.yaml", "--set", "data.sources=-", "--run", "piped", stdin=text)
    charlstm("train", "--resume", "piped", "--set", "training.max_steps=15")  # the text is in the cache
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "another"))
    charlstm("train", "--resume", "piped", "--set", "training.max_steps=16", stdin=text)
    assert len(charlstm("sample", "--length", 20, "--temp", 0, "--json").stdout) > 20
    assert json.loads(charlstm("eval", "-", "--json", stdin=text).stdout)["chars"] == len(CYRILLIC) - 1


@pytest.mark.parametrize(
    ("policy", "code", "told"), [("error", 3, "unknown to"), ("skip", 0, "left out of"), ("replace", 0, "replaced in")]
)
def test_cli_treats_unknown_characters_as_the_run_was_told(policy: str, code: int, told: str) -> None:
    charlstm("train", "tiny.yaml", "--set", f"data.unknown={policy}", "--set", "training.max_steps=2")
    result = charlstm("sample", "--prompt", "Жtide", "--length", 5, "--seed", 1, expect=code)
    assert told in result.stderr
    assert "'Ж' (U+0416)" in result.stderr
    if code == 0:
        assert result.stdout.startswith("Жtide")
    evaluated = charlstm("eval", "-", stdin="the tide Ж\n".encode(), expect=code)
    assert "'Ж' (U+0416)" in evaluated.stderr


# sampling


def test_sample_gives_the_same_text_for_the_same_seed_and_another_without() -> None:
    first, second = (charlstm("sample", "--seed", 7) for _ in range(2))
    assert first.stdout == second.stdout
    assert first.stderr == ""
    unseeded = [charlstm("sample") for _ in range(2)]
    assert unseeded[0].stdout != unseeded[1].stdout
    for result in unseeded:
        seed = result.stderr.removeprefix("seed ").strip()
        assert charlstm("sample", "--seed", seed).stdout == result.stdout


def test_sample_writes_the_text_alone_and_counts_exactly() -> None:
    for length in (1, 2, 50, 333):
        text = charlstm("sample", "--length", length, "--seed", 2, "--prompt", "The tide").stdout
        assert text.endswith("\n")
        bare = charlstm("sample", "--length", length, "--seed", 2, "--prompt", "The tide", "--no-echo").stdout
        assert text == "The tide" + bare
        (told,) = map(
            json.loads,
            charlstm(
                "sample", "--length", length, "--seed", 2, "--prompt", "The tide", "--no-echo", "--json"
            ).stdout.splitlines(),
        )
        assert len(told["text"]) == length
        assert bare == told["text"] + ("" if told["text"].endswith("\n") else "\n")


def test_sample_ends_in_one_newline_and_knows_a_vocabulary_of_one_character() -> None:
    Path("text.txt").write_text("\n" * 800)
    charlstm("train", "tiny.yaml", "--set", "data.sources=text.txt", "--run", "empty-lines")
    for how in ([], ["--samples", 2], ["--prompt", "\n"], ["--temp", 0]):
        text = charlstm("sample", "--run", "empty-lines", "--length", 3, *how).stdout
        assert text == "\n" * {"--samples": 6, "--prompt": 4}.get(how[0] if how else "", 3)


def test_sample_continues_a_file_and_stdin_as_it_does_a_prompt() -> None:
    Path("prompt.txt").write_text("The tide")
    expected = charlstm("sample", "--seed", 1, "--prompt", "The tide").stdout
    assert charlstm("sample", "--seed", 1, "--prompt-file", "prompt.txt").stdout == expected
    assert charlstm("sample", "--seed", 1, "--prompt-file", "-", stdin=b"The tide").stdout == expected


def test_sample_json_is_one_object_a_sample_each_as_if_it_were_alone() -> None:
    options = ["--length", 60, "--stop", "e", "--json"]
    lines = charlstm("sample", "--seed", 3, "--samples", 70, *options).stdout.splitlines()
    assert [json.loads(line)["seed"] for line in lines] == list(range(3, 73))
    for line in lines[::23]:
        one = json.loads(line)
        assert one.keys() == {"text", "seed", "mean_log_prob"}
        assert one["mean_log_prob"] < 0
        assert "e" not in one["text"]
        assert json.loads(charlstm("sample", "--seed", one["seed"], *options).stdout) == pytest.approx(one)


def test_sample_takes_the_likeliest_at_temperature_0_and_with_one_candidate() -> None:
    texts = {charlstm("sample", *how).stdout for how in (["--temp", 0], ["--top-k", 1], ["--temp", 0, "--seed", 9])}
    assert len(texts) == 1


def test_sample_takes_its_defaults_from_the_run() -> None:
    charlstm("train", "tiny.yaml", "--set", "sampling.length=17", "--set", "sampling.temperature=0")
    assert len(charlstm("sample").stdout.removesuffix("\n")) in (16, 17)
    assert len(charlstm("sample", "--set", "sampling.length=9").stdout.removesuffix("\n")) in (8, 9)


def test_sample_loads_no_torch() -> None:
    program = (
        "import sys; from charlstm.cli import app\n"
        "try: app(['sample', '--length', '5'], prog_name='charlstm')\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'rich' not in sys.modules and 'tqdm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


# measuring


def test_eval_gives_the_promised_figures_and_always_the_same() -> None:
    first, second = (charlstm("eval", "--json").stdout for _ in range(2))
    assert first == second
    figures = json.loads(first)
    assert list(figures) == ["loss", "bits_per_char", "perplexity", "accuracy", "chars", "protocol", "split"]
    assert (figures["chars"], figures["protocol"], figures["split"]) == (599, "stream", "val")
    assert figures["loss"] == pytest.approx(metrics(Path("runs/tiny"))[-1]["val_loss"], rel=1e-5)
    assert json.loads(charlstm("eval", "--json", "--split", "test").stdout)["chars"] == 599
    assert json.loads(charlstm("eval", "--json", "--protocol", "windows").stdout)["protocol"] == "windows"
    assert json.loads(charlstm("eval", "text.txt", "--json").stdout)["split"] is None


# the shell


def test_cli_pipes_behave(here: Path) -> None:
    done = shell('charlstm sample --length 0 | head -c 100; echo " ${PIPESTATUS[*]}"', here)
    assert done.stdout.endswith(b" 141 0\n")
    assert len(done.stdout) == 100 + len(" 141 0\n")
    assert done.stderr.startswith(b"seed ")
    assert done.stderr.count(b"\n") == 1
    done = shell("charlstm sample --length 800 | charlstm eval - --json", here)
    assert json.loads(done.stdout)["chars"] in (799, 800)


@pytest.mark.parametrize("command", ["sample --seed 1", "config show", "config schema", "--help", "--version", "eval"])
def test_cli_says_when_stdout_is_full_or_closed(here: Path, command: str) -> None:
    for redirected, told in ((">/dev/full", b"No space left on device"), (">&-", b"it is closed")):
        done = shell(f"charlstm {command} {redirected}", here)
        assert done.returncode == 6
        assert done.stderr == b"charlstm: could not write to standard output: " + told + b"\n"


def test_cli_goes_on_without_stderr(here: Path) -> None:
    for redirected in ("2>&-", "2>/dev/full", "2>&- <&-"):
        done = shell(f"charlstm sample --seed 1 {redirected} && charlstm nope {redirected}", here)
        assert (done.returncode, done.stdout) == (2, charlstm("sample", "--seed", 1).stdout_bytes)
    assert shell("charlstm train tiny.yaml --run unheard >&- 2>&- <&-", here).returncode == 0
    assert ending(here / "unheard") == ending(here / "runs/tiny")


def test_cli_log_has_no_control_characters(here: Path) -> None:
    shell("charlstm train tiny.yaml > log 2>&1", here)
    log = Path("log").read_text()
    assert "sample with" in log
    assert all(c.isprintable() or c == "\n" for c in log)


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_cli_speaks_utf8_in_any_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    write_settings(tmp_path, CYRILLIC)
    commands = ("--help >/dev/null", "train tiny.yaml --run прогон", "sample --run прогон --prompt Не --temp 0")
    done = shell(" && ".join(f"charlstm {command}" for command in commands), tmp_path, **locale)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith("Не")
    assert "2 × 8" in done.stderr.decode()
    assert "sample with: charlstm sample --run прогон" in done.stderr.decode().replace("'", "")


def test_cli_shows_its_help_settings_and_version() -> None:
    for command in ([], ["train"], ["sample"], ["eval"], ["config"], ["config", "show"]):
        assert charlstm(*command, "--help").stdout.startswith("Usage: ")
    assert json.loads(charlstm("config", "schema").stdout)["$defs"]
    assert "training.max_steps" in charlstm("config", "reference").stdout
    assert "  max_steps: 3\n" in charlstm("config", "show", "--set", "training.max_steps=3").stdout
    assert charlstm("--version").stdout.count(".") == 2


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def seen_on_a_terminal(command: Sequence[str], folder: Path, columns: int, **env: str) -> str:
    """What a command writes to a terminal of so many columns."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "charlstm", *command],
        cwd=folder,
        stdin=child,
        stdout=child,
        stderr=child,
        env={**os.environ, "TERM": "xterm", **env},
    )
    os.close(child)
    seen = b""
    try:
        while piece := os.read(parent, 4096):
            seen += piece
    except OSError:  # EIO: the other end is closed
        pass
    os.close(parent)
    assert process.wait() == 0, seen
    return seen.decode()


def test_train_draws_a_bar_on_a_terminal_and_takes_it_away(here: Path) -> None:
    train = ["train", "tiny.yaml", "--run"]
    wide = seen_on_a_terminal([*train, "wide"], here, 120)
    assert "bits/char" in wide
    assert "chars/s" in wide
    assert wide.splitlines()[-1].startswith("sample with")
    narrow = seen_on_a_terminal([*train, "narrow"], here, 40, NO_COLOR="1")
    bars = [piece for piece in narrow.split("\r") if "left  loss" in piece and "\n" not in piece]
    assert bars
    assert max(map(len, bars)) <= 40


@pytest.mark.parametrize(("term", "redraws"), [("xterm-256color", True), ("dumb", False), ("", False)])
def test_train_draws_no_bar_where_nothing_can_be_redrawn(
    monkeypatch: pytest.MonkeyPatch, term: str, redraws: bool
) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert Report(quiet=False, first_step=0).terminal == redraws
