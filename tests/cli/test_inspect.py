"""`charlstm inspect` prints tables and views, writes files, and names user errors."""

import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from charlstm.analysis import find_correlated_units, inspect_text, read_gates, text_features
from charlstm.cells import LETTERS
from charlstm.cli import app, gates_view
from charlstm.runs import Checkpoint, Progress, TextIdentity, create_run, save_checkpoint
from charlstm.text import start_id

from ..analysis.small_models import BYTES, TEXT, engine_of, run_of, vocab_of, weights_of
from .commands import seen_on_a_terminal


def make_run(folder, *, vocab, **model):
    unsaved = run_of(vocab, **model)
    run = create_run(folder, unsaved.settings, vocab, TextIdentity("0" * 64), name="made")
    weights = weights_of(run.settings.model, vocab.size)
    save_checkpoint(run, Checkpoint(weights, {}, Progress(step=1)), is_best=True)


def activity_of_text():
    vocab = vocab_of(TEXT)
    return read_gates(engine_of(vocab.size), vocab.encode_text(TEXT, where="it"), start_id=start_id(vocab))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a run and the text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHARLSTM_RUN", "run")
    make_run(tmp_path / "run", vocab=vocab_of(TEXT))
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8", newline="")
    return tmp_path


def call(*arguments, **options):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)], **options)


@pytest.mark.usefixtures("place")
def test_inspect_prints_a_line_a_character_with_the_arrays_values():
    result = call("text.txt", "--layer", 1, "--unit", 4)
    assert result.exit_code == 0, result.stderr
    header, *lines = result.stdout_bytes.decode().removesuffix("\n").split("\n")
    assert header.split("\t") == (
        ["position", "char", "surprisal_bits", "i", "f", "g", "o", "h", "c", "expected_next", "probability"]
    )
    activity = activity_of_text()
    assert len(lines) == len(TEXT)
    for t, line in enumerate(lines):
        position, _, surprisal, *values, _, probability = line.split("\t")
        assert int(position) == t
        shown = np.array([surprisal, *values, probability], dtype=float)
        values = [activity.values[name][t, 1, 4] for name in "ifgohc"]
        expected = [activity.surprisal[t], *values, activity.guess_probs[t, 0]]
        np.testing.assert_allclose(shown, expected, atol=1e-5)
    shown = "".join(line.split("\t")[1] for line in lines)
    assert shown == TEXT.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.stdout)


@pytest.mark.parametrize("cell", ["peephole", "peephole-full", "gru", "rnn"])
def test_inspect_takes_every_cell(place, cell):
    make_run(place / cell, vocab=vocab_of(TEXT), cell=cell)
    result = call("text.txt", "--run", cell, "--html", "page.html", "--npz", "arrays.npz")
    assert result.exit_code == 0, result.stderr
    with np.load("arrays.npz", allow_pickle=False) as arrays:
        assert arrays["text"].item() == TEXT
    assert call("text.txt", "--run", cell).stdout.count("\n") == len(TEXT) + 1


def test_inspect_takes_bytes(place):
    make_run(place / "bytes", vocab=BYTES)
    result = call("-", "--run", "bytes", input=b"a\xff\n\xc3\xa9")
    assert [line.split("\t")[1] for line in result.stdout.splitlines()[1:]] == ["a", "\\xff", "↵", "\\xc3", "\\xa9"]


@pytest.mark.usefixtures("place")
def test_inspect_lists_correlated_units():
    header, *lines = call("text.txt", "--units").stdout.splitlines()
    assert header == "feature\tlayer\tunit\tr_held_out\tr_found\tr_chance"
    expected = find_correlated_units(activity_of_text().values["c"], text_features(TEXT))
    for line, found in zip(lines, expected, strict=True):
        feature, layer, unit, *correlations = line.split("\t")
        assert (feature, int(layer), int(unit)) == (found.feature, found.layer, found.unit)
        np.testing.assert_allclose(
            np.array(correlations, dtype=float), [found.r_held_out, found.r_found, found.r_chance], atol=1e-4
        )
    assert len(expected) > 5


@pytest.mark.usefixtures("place")
def test_inspect_studies_more_than_it_shows():
    complete, part = call("text.txt", "--units"), call("text.txt", "--units", "--length", 50)
    assert part.stdout == complete.stdout
    assert "showing" not in part.stderr
    assert call("text.txt", "--units", "--length", 50, "--study", 300).stdout != complete.stdout
    shown = call("text.txt", "--length", 50)
    assert shown.stdout.count("\n") == 51
    assert "showing the first 50 chars; --length shows more" in shown.stderr


def test_inspect_draws_a_picture(place):
    pytest.importorskip("matplotlib")
    assert call("text.txt", "--png", "picture.png", "--show", 200).exit_code == 0
    assert (place / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_replaces_an_older_file_atomically(place, monkeypatch):
    (place / "page.html").write_text("older")
    (place / "link.html").symlink_to("page.html")
    assert call("text.txt", "--html", "link.html").exit_code == 0
    assert (place / "link.html").is_symlink()
    page = (place / "page.html").read_bytes()
    assert page.startswith(b"<!doctype html>")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = call("text.txt", "--html", "page.html", "--length", 9)
    assert (result.exit_code, (place / "page.html").read_bytes()) == (6, page)
    assert "--html: could not write page.html: No space left on device" in result.stderr
    assert not list(place.glob(".unfinished*"))


def test_inspect_writes_into_a_pipe(place):
    command = [sys.executable, "-m", "charlstm", "inspect", "text.txt", "--html", "/dev/stdout"]
    done = subprocess.run(command, cwd=place, capture_output=True, check=True)
    assert done.stdout.startswith(b"<!doctype html>")
    assert done.stdout.endswith(b"</html>\n")


def test_inspect_refuses_a_model_that_fills_gaps(place):
    make_run(place / "cloze", vocab=vocab_of(TEXT), objective="cloze", bidirectional=True)
    result = call("text.txt", "--run", "cloze")
    assert (result.exit_code, result.stderr.count("\n")) == (4, 1)
    assert "fills gaps" in result.stderr


def test_inspect_view_puts_each_gate_under_its_character():
    text = "ab\n漢x\u0301" + "w" * 90
    run = run_of(vocab_of(text))
    ids = run.vocab.encode_text(text, where="it")
    inspection = inspect_text(run, weights_of(run.settings.model, run.vocab.size), ids, length=len(ids))
    console = Console(file=io.StringIO(), width=80)  # without colours, as a file is
    shown = gates_view.view(inspection, layer=0, unit=1, count=len(text), console=console).decode()
    shown = shown.partition("\n\n")[2]
    blocks = [shown.splitlines()[k : k + 8] for k in range(0, len(shown.splitlines()), 8)]
    assert "".join(block[0][5:] for block in blocks) == "ab↵漢x◌\u0301" + "w" * 90
    assert [line[:5].strip() for line in blocks[0]] == ["", "c", "i", "f", "g", "o", "h", "bits"]
    assert {len(line) - 5 for line in blocks[0][1:]} == {3}
    assert {len(line) - 5 for line in blocks[1][1:]} == {75}  # 漢 takes two columns
    i = inspection.activity.values["i"][:, 0, 1]
    assert blocks[0][2][5:] == "".join(" ▁▂▃▄▅▆▇█"[round(float(value) * 8)] for value in i[:3])


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_inspect_view_begins_with_every_row_and_its_scale(cell, columns):
    run = run_of(vocab_of(TEXT), cell=cell)
    ids = run.vocab.encode_text(TEXT, where="it")
    inspection = inspect_text(run, weights_of(run.settings.model, run.vocab.size), ids, length=len(ids))
    console = Console(file=io.StringIO(), width=columns)
    shown = gates_view.view(inspection, layer=0, unit=1, count=100, console=console).decode()
    assert max(map(cell_len, shown.splitlines())) <= columns
    legend = " ".join(shown.partition("\n\n")[0].split())
    rows = list(inspection.activity.of_unit(0, 1))
    assert re.findall(r"(\w+) ▁▂▃▄▅▆▇█", legend) == [*rows, "bits"]
    for name in rows:
        assert f"{LETTERS[name].label}, {LETTERS[name].meaning}" in legend
    largest = np.abs(inspection.activity.values["h" if cell == "rnn" else "c"][:, 0, 1]).max()
    assert f"-{largest:.2f} to +{largest:.2f}" in legend
    assert ("0 shut to 1 open: input gate" in legend) == (cell == "lstm")
    assert "0 to 8 or more: surprisal of the character" in legend


@pytest.mark.usefixtures("place")
def test_inspect_colours_in_a_pipe_only_when_asked():
    coloured = call("text.txt", "--color", "always", "--show", 30).stdout
    assert "\x1b[" in coloured
    assert "bits" in coloured
    for choice in ("auto", "never"):
        assert call("text.txt", "--color", choice, "--show", 30).stdout.startswith("position\tchar")
    assert call("text.txt", "--color", "always", env={"NO_COLOR": "1"}).stdout.count("\x1b[") > 100


@pytest.mark.usefixtures("place")
def test_inspect_chooses_no_unit_from_a_text_too_short():
    sentence = "5 chars are too few to tell what a unit follows (250 are needed), so none is chosen for it"
    for options in ([], ["--units"]):
        result = call("-", *options, input="That.")
        assert (result.exit_code, sentence in result.stderr) == (0, True)
    assert result.stdout.count("\n") == 1
    assert "too few" not in call("text.txt").stderr


def test_inspect_units_are_aligned_on_a_terminal(place, forks):
    shown = seen_on_a_terminal(forks, ["inspect", "text.txt", "--run", "run", "--units"], place, 80)
    shown = re.sub(r"\x1b\[[\d;]*m", "", shown)
    header, _, *rows = [line for line in shown.splitlines() if "  " in line or "─" in line]
    found = find_correlated_units(activity_of_text().values["c"], text_features(TEXT))
    for name in ("layer", "unit"):
        end = header.index(name) + len(name)
        assert [row[:end].split()[-1] for row in rows] == [str(getattr(unit, name)) for unit in found]
    assert "\t" not in shown


@pytest.mark.parametrize(("no_color", "options"), [("", []), ("1", []), ("", ["--color", "never"])])
def test_inspect_colours_on_a_terminal_unless_told_not_to(place, forks, no_color, options):
    colours = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": no_color}
    command = ["inspect", "text.txt", "--run", "run", "--show", "30", *options]
    shown = seen_on_a_terminal(forks, command, place, 80, **colours)
    coloured = not no_color and not options
    assert bool(re.search(r"\x1b\[[\d;]+m", shown)) == coloured
    assert "bits " in shown
    assert ("48;2;" in shown) == coloured
