"""A run folder that somebody else made: what is in it reaches neither the terminal's controls nor other files."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from charlstm import runs
from charlstm.cli.terminal import read_input
from charlstm.errors import InputOutputError, RunError, SettingsError, TextError
from charlstm.settings import dump_settings, load_settings
from charlstm.text import Vocab

from ..cli.commands import seen_on_a_terminal
from ..forks import Forks
from ..runs.saved import row
from ..small_runs import write_settings
from .forgeries import LATEST, forge

ESCAPE = "\x1b]0;owned\x07\x9b31m\u202e"
IN_YAML = f'"{ESCAPE.encode("unicode_escape").decode()}"'
SAMPLE = ["sample", "--length", "5", "--seed", "1", "--run"]


def renew_checksum(run: Path, name: str) -> None:
    """Put the checksum of a file beside the checkpoints into the manifest of the latest, which both pointers name."""
    data = (run / name).read_bytes()
    forge(run, name, data)
    (run / LATEST / name).unlink()


def with_weight(run: Path, name: str, array: np.ndarray) -> None:
    weights = safetensors_numpy.load_file(run / LATEST / "model.safetensors")
    forge(run, "model.safetensors", safetensors_numpy.save(weights | {name: array}))


def rewrite(run: Path, line: str, replacement: str) -> None:
    """Change a line of the settings, without their checksum."""
    _, _, lines = (run / "config.yaml").read_text().partition("\n")
    assert line in lines
    (run / "config.yaml").write_text(lines.replace(line, replacement))


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a field of the manifest": lambda run: forge(run, "manifest.json", json.dumps({ESCAPE: {ESCAPE: 1}}).encode()),
    "the name of a weight": lambda run: with_weight(run, ESCAPE, np.zeros(1)),
    "a field of the progress": lambda run: forge(run, "progress.json", json.dumps({ESCAPE: 1}).encode()),
    "a pointer": lambda run: (run / "best").write_text(ESCAPE),
    "the checksum of a pointer": lambda run: (run / "best").write_text(f"step-00000006 {ESCAPE}"),
    "a key of the settings": lambda run: rewrite(
        run, "  num_layers", f'  "{ESCAPE.encode("unicode_escape").decode()}"'
    ),
    "a cell": lambda run: rewrite(run, "cell: lstm", f"cell: {IN_YAML}"),
    "the vocabulary": lambda run: (run / "vocab.json").write_text(json.dumps({"unit": ESCAPE})),
    "the text's identity": lambda run: (run / "text.json").write_text(json.dumps({ESCAPE: ESCAPE})),
}


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_text_in_a_message_moves_no_terminal(
    run: Path, forks: Forks, hostile: Callable[[Path], object]
) -> None:
    hostile(run)
    named = run.with_name(f"run {ESCAPE}")
    run.rename(named)
    end = forks.run([*SAMPLE, str(named)], cwd=named.parent)
    assert (end.code in (2, 4), end.out, end.err.count("\n")) == (True, "", 1), end
    assert end.err[:-1].isprintable(), end


def test_hostile_names_in_headers_labels_and_pointers_move_no_terminal(run: Path, forks: Forks, tmp_path: Path) -> None:
    named, text = run.with_name(f"run{ESCAPE}"), tmp_path / f"text{ESCAPE}\n.txt"
    run.rename(named)
    config = write_settings(tmp_path)
    shutil.copy(tmp_path / "text.txt", text)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/latest").write_text(f"none{ESCAPE}\n")
    train = ["train", str(config), "--set", f"data.sources={text}", "--run", str(tmp_path / ESCAPE)]
    for command in (train, [*SAMPLE[:-1]], ["plot", str(named)], [*SAMPLE, str(named)]):
        seen = forks.run(command, cwd=tmp_path)
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(seen.out + seen.err), seen
    drawn = seen_on_a_terminal(forks, [*train[:-1], str(tmp_path / f"2{ESCAPE}")], tmp_path, 200)
    assert not {"\x07", "\x9b", "\u202e"} & set(drawn)
    assert "]0;owned" in drawn  # what is left is text
    assert "\x1b]" not in drawn


def test_hostile_vocabulary_is_shown_on_a_terminal_and_given_to_a_pipe(run: Path, forks: Forks, tmp_path: Path) -> None:
    fields = json.loads((run / "vocab.json").read_text())
    count = len(fields["symbols"])
    fields["symbols"] = sorted(["\x1b", "\x9b", *map(chr, range(0x430, 0x430 + count - 2))])
    (run / "vocab.json").write_text(Vocab.from_json(json.dumps(fields), where="here").to_json())
    renew_checksum(run, "vocab.json")
    command = ["sample", "--run", str(run), "--length", "400", "--temp", "9", "--seed", "1"]
    piped = forks.run(command, cwd=tmp_path).out
    assert {"\x1b", "\x9b"} < set(piped)
    shown = seen_on_a_terminal(forks, command, tmp_path, 80)
    assert shown.replace("\r\n", "\n") == piped.replace("\x1b", "\\x1b").replace("\x9b", "\\x9b")
    assert seen_on_a_terminal(forks, [*command, "--raw"], tmp_path, 80).replace("\r\n", "\n") == piped
    for options in (["--json"], ["--samples=2", "--quiet"]):  # a rule between texts is dim
        assert not {"\x1b", "\x9b"} & set(seen_on_a_terminal(forks, [*command, *options], tmp_path, 80))


def naming(run: Path, *sources: str) -> None:
    """Have a run that was not trained here name these sources."""
    settings = load_settings(run / "config.yaml", [f"data.sources=[{', '.join(sources)}]"])
    (run / "config.yaml").write_text("# made elsewhere\n" + dump_settings(settings))
    (run / "text.json").write_text('{"fingerprint":"' + "ab" * 32 + '"}')
    renew_checksum(run, "text.json")


def test_hostile_sources_are_not_touched(
    run: Path, forks: Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO would be waited for, a secret be copied, / be walked."""
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "cache"))
    os.mkfifo(tmp_path / "fifo")
    for source in (str(tmp_path / "fifo"), "/etc/passwd", "/", "/**", "/dev/zero", "-"):
        naming(run, source)
        resume = ["train", "--resume", str(run)] if source != "-" else []  # which takes what is piped into it
        for command in filter(None, (["eval", "--run", str(run)], ["inspect", "--run", str(run)], resume)):
            end = forks.run(command, cwd=tmp_path)
            assert (end.code, end.out, end.err.count("\n")) == (RunError.exit_code, "", 1), end
            assert "--trust-sources" in end.err
    assert not (tmp_path / "cache").exists()
    end = forks.run(["eval", "--run", str(run), "--trust-sources"], cwd=tmp_path)
    assert (end.code, "the text is empty" in end.err) == (TextError.exit_code, True)  # of standard input
    naming(run, "python-stdlib")  # which holds nothing of the user's
    assert "has changed since" in forks.run(["eval", "--run", str(run)], cwd=tmp_path).err


def test_hostile_vocabulary_for_a_text_of_ours_is_refused(run: Path) -> None:
    fields = json.loads((run / "vocab.json").read_text())
    fields["symbols"] = fields["symbols"][:-1]
    (run / "vocab.json").write_text(json.dumps(fields))
    with pytest.raises(RunError, match="has changed"):
        runs.read_split(runs.open_run(run), "val")


def test_hostile_links_are_not_followed(run: Path, tmp_path: Path, forks: Forks) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine\n")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/.unfinished-latest").symlink_to(precious)
    (tmp_path / "runs/latest").symlink_to(precious)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(precious)
    with pytest.raises(InputOutputError, match="symbolic links"):
        runs.append_metrics(run, row(1))
    end = forks.run(["train", str(write_settings(tmp_path)), "--run", "new"], cwd=tmp_path)
    assert end.code == 0
    assert precious.read_text() == "mine\n"


@pytest.mark.parametrize("what", ["hole", "fifo"])
def test_hostile_metrics_are_neither_read_whole_nor_waited_for(
    run: Path, forks: Forks, tmp_path: Path, what: str
) -> None:
    path = run / "metrics.jsonl"
    path.unlink()
    if what == "fifo":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.truncate(20_000_000_000)
    for command in (["plot", str(run)], ["train", "--resume", str(run), "--set", "training.max_steps=20"]):
        end = forks.run(command, cwd=tmp_path, more_memory_bytes=300 << 20)
        assert (end.code, end.out, end.err.count("\n")) == (RunError.exit_code, "", 1), end


def test_hostile_inputs_without_end_are_refused(run: Path, forks: Forks, tmp_path: Path) -> None:
    end = forks.run([*SAMPLE, str(run), "--prompt-file", "/dev/zero"], cwd=tmp_path, more_memory_bytes=800 << 20)
    assert (end.code, end.out, "longer than 100,000,000 bytes" in end.err) == (TextError.exit_code, "", True)
    with pytest.raises(TextError, match="longer than 100,000,000 bytes"):
        read_input("/dev/zero")  # as `fill` does
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    end = forks.run(["train", "zero.yaml"], cwd=tmp_path, more_memory_bytes=300 << 20)
    assert (end.code, end.err.count("\n")) == (SettingsError.exit_code, 1)
