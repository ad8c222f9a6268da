"""Bad command lines: one sentence, an exit code, and nothing left behind."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..small_runs import contents
from .commands import charlstm

WORKED = Path(__file__).parents[2] / "configs" / "worked"
ONE_UNIT = str(WORKED / "one-unit.yaml")


@pytest.fixture(scope="module")
def place(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workshop with files that no command takes."""
    folder = tmp_path_factory.mktemp("bad") / "here"
    shutil.copytree(workshop, folder)
    (folder / "empty.txt").touch()
    (folder / "short.txt").write_text("hello\n")
    (folder / "letter.txt").write_text("a")
    (folder / "latin.txt").write_bytes(b"abc\nd\xe9f\n" * 300)
    (folder / "foreign.txt").write_text("Ж", encoding="utf-8")
    (folder / "rnn.yaml").write_text("inputs: [1]\nrnn:\n  candidate: {h: 1, x: y}\n")
    (folder / "misspelt.yaml").write_text("training:\n  max_stepps: 3\n")
    (folder / "section.yaml").write_text("trainig: {max_steps: 3}\n")
    shutil.copytree(folder / "runs", folder / "bad/runs")
    for model in (folder / "bad/runs/tiny/checkpoints").glob("*/model.safetensors"):
        data = bytearray(model.read_bytes())
        data[-5] ^= 1
        model.write_bytes(data)
    return folder


SAMPLE, TRAIN = ["sample"], ["train", "tiny.yaml", "--run", "new"]
BAD_COMMANDS: list[tuple[list[str], int, str]] = [
    (["trian"], 2, "Did you mean 'train'"),
    (["train", "tiny.yaml", "--nope"], 2, "no such option: --nope"),
    (["train", "tiny.yaml", "extra"], 3, "there is no file or folder 'extra'"),
    (["train", "tiny.yaml", "misspelt.yaml"], 2, "tiny.yaml and misspelt.yaml are both settings"),
    (["train", "text.txt", "--set", "data.sources=short.txt"], 2, "leave one of them out"),
    (["config", "nope"], 2, "no such command 'nope'"),
    (["train", "nope.yaml"], 2, "nope.yaml: the settings cannot be read: No such file"),
    (["train", "."], 3, "is not valid UTF-8"),
    (["train", "misspelt.yaml"], 2, "misspelt.yaml:2: training.max_stepps is not a setting; did you mean"),
    (["train", "section.yaml"], 2, "section.yaml:1: trainig is not a setting; did you mean training?"),
    ([*TRAIN, "--set", "training.max_steps=0"], 2, "an integer of at least 1"),
    ([*TRAIN, "--set", "training.max_steps"], 2, "has no ="),
    ([*TRAIN, "--set", "training.learning_rate=nan"], 2, "training.learning_rate"),
    ([*TRAIN, "--set", "data.sources=nope.txt"], 3, "there is no file or folder 'nope.txt'"),
    ([*TRAIN, "--set", "data.sources=empty.txt"], 3, "the text is empty ('empty.txt')"),
    ([*TRAIN, "--set", "data.sources=letter.txt"], 3, "need at least 2"),
    ([*TRAIN, "--set", "data.sources=latin.txt"], 3, "line 2 (0xe9)"),
    ([*TRAIN, "--set", "data.sources=-"], 3, "the text is empty"),
    (["train", "tiny.yaml", "--run", "runs/tiny"], 4, "runs/tiny is a run"),
    (["train", "tiny.yaml", "--run", "text.txt"], 4, "text.txt is a file"),
    (["train", "tiny.yaml", "--run", "text.txt/run"], 6, "Not a directory"),
    (["train", "tiny.yaml", "--resume", "runs/tiny"], 2, "leave CONFIG, TEXT, --run and --init-from out"),
    (["train", "--resume", "nope"], 4, "nope is not a run folder"),
    (["train", "--resume", "."], 4, "is not a run folder"),
    (["train", "--resume", "runs/tiny", "--set", "model.hidden_size=9"], 2, "differs from 8"),
    (["train", "--resume", "runs/tiny", "--set", "training.seed=2"], 2, "start a new run"),
    (["train", "--resume", "bad/runs/tiny", "--set", "training.max_steps=99"], 4, "damaged"),
    ([*SAMPLE, "--json", "-0"], 2, "give one of them"),
    ([*SAMPLE, "-i", "-p", "The"], 2, "leave --prompt"),
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
    (["eval", "--dynamic", "--protocol", "windows"], 2, "reads the text as one stream: leave --protocol windows out"),
    (["eval", "text.txt", "empty.txt", "--dynamic"], 3, "empty"),
    (["eval", "--dynamic", "--run", "bad/runs/tiny"], 4, "damaged"),
    (["eval", "--run", "bad/runs/tiny"], 4, "damaged"),
    (["config", "show", "nope.yaml"], 2, "nope.yaml"),
    (["inspect", "nothing.txt"], 3, "nothing.txt"),
    (["inspect", "empty.txt"], 3, "empty"),
    (["inspect", "foreign.txt"], 3, "unknown to the vocabulary"),
    (["inspect", "text.txt", "--layer", "2"], 2, "--layer 2: the model has 2 layers, so 0 to 1"),
    (["inspect", "text.txt", "--unit", "8"], 2, "--unit 8: a layer has 8 units, so 0 to 7"),
    (["inspect", "text.txt", "--units", "--html", "x"], 2, "--units prints a table"),
    (["inspect", "text.txt", "--run", "nope"], 4, "nope is not a run folder"),
    (["inspect", "short.txt", "--html", "no/such/folder.html"], 6, "--html: could not write no/such/folder.html"),
    (["plot", "."], 4, "metrics.jsonl"),
    (["trace", "none.yaml"], 2, "none.yaml"),
    (["trace", "rnn.yaml"], 2, ':3: rnn.candidate.x is "y", but must be a number'),
    (["trace", ONE_UNIT, "--inputs", "a"], 2, "--inputs"),
    (["trace", ONE_UNIT, "--target", "[["], 2, "--target"),
    (["trace", str(WORKED / "four-steps.yaml"), "--steps", "2"], 2, "--steps needs something to learn: give --target"),
    (["compare", "peephole"], 2, "torch has no cell with peepholes to compare peephole with: take lstm, gru, rnn"),
    (["compare", "lstn"], 2, "lstn is neither a file nor a cell: lstm, peephole, peephole-full, gru, rnn"),
    (["compare", ONE_UNIT, "--seed", "3"], 2, "brings its own sizes and weights: leave out the options"),
    (["inspect", "text.txt", "--color", "blue"], 2, "'blue'"),
]


@pytest.mark.parametrize(
    ("args", "code", "told"), BAD_COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_cli_answers_a_bad_command_in_one_sentence_and_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, told: str
) -> None:
    monkeypatch.chdir(place)
    before = contents(place)
    result = charlstm(*args, stdin=b"", expect=code)
    assert result.stdout_bytes == b""
    assert result.stderr.startswith("charlstm: ")
    assert result.stderr.count("\n") == 1, result.stderr
    assert told in result.stderr
    assert contents(place) == before


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("matplotlib", ["inspect", "text.txt", "--png", "x.png"]),
        ("matplotlib", ["trace", ONE_UNIT, "--png", "x.png"]),
        ("matplotlib", ["plot", "runs/tiny", "--png", "x.png"]),
        ("plotext", ["plot", "runs/tiny"]),
    ],
)
@pytest.mark.usefixtures("here")
def test_cli_names_the_extra_that_is_missing(module: str, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = charlstm(*command, expect=2)
    assert f"needs {module}, which is not installed: pip install matplotlib plotext\n" in result.stderr
    assert result.stdout == ""


HEAVY = ["torch", "matplotlib", "plotext", "threadpoolctl", "onnx", "onnxruntime"]
LOADED = [  # commands run one after the other, and what none of them may have loaded by then
    [(command, ["numpy", *HEAVY]) for command in (["--help"], ["train", "--help"], ["config", "schema"])],
    [
        (["sample", "--length", "5"], ["rich", "tqdm", *HEAVY]),
        (["inspect", "text.txt", "--html", "page.html"], ["rich", *HEAVY]),
        (["trace", str(WORKED / "four-steps.yaml")], HEAVY),
    ],
]


@pytest.mark.parametrize("commands", LOADED, ids=["without a model", "with a model"])
@pytest.mark.usefixtures("here")
def test_cli_loads_no_more_than_it_needs(commands: list[object]) -> None:
    program = """if True:
        import json, sys
        from charlstm.cli import app
        for arguments, unneeded in json.loads(sys.argv[1]):
            app(arguments, prog_name="charlstm", standalone_mode=False)
            assert not set(unneeded) & set(sys.modules), (arguments, set(unneeded) & set(sys.modules))
    """
    subprocess.run(
        [sys.executable, "-W", "error", "-c", program, json.dumps(commands)], check=True, capture_output=True
    )


def test_cli_says_when_there_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for args in (["sample"], ["eval"]):
        assert "there is no run here" in charlstm(*args, expect=4).stderr
    monkeypatch.setenv("CHARLSTM_RUN", "nope")
    assert "nope is not a run folder" in charlstm("sample", expect=4).stderr


@pytest.mark.usefixtures("here")
def test_cli_takes_extreme_numbers() -> None:
    for option in ("--temp=1e-30", "--temp=1e300", "--top-k=999999999999999999999", "--top-p=1", "--top-p=1e-300"):
        told = json.loads(charlstm("sample", "--length", 30, "--json", option).stdout)
        assert len(told["text"]) == 30
