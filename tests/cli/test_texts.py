"""Any text goes the whole way of the command line: Cyrillic, CJK, bytes, standard input, unknown characters."""

import json
from pathlib import Path

import pytest

from .commands import CYRILLIC, charlstm, write_settings

CJK = "日本語の文字、絵文字😀🎉と改行。\n漢字かな交じり文👩‍💻です。\n" * 40


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
    assert figures[f"{unit}s"] == (len(text) if unit == "char" else len((tmp_path / "text.txt").read_bytes()))


def test_cli_trains_resumes_and_evaluates_a_text_from_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_settings(tmp_path, CYRILLIC)
    text = CYRILLIC.encode()
    charlstm("train", "tiny.yaml", "--set", "data.sources=-", "--run", "piped", stdin=text)
    charlstm("train", "--resume", "piped", "--set", "training.max_steps=15")  # the text is in the cache
    monkeypatch.setenv("CHARLSTM_CACHE", str(tmp_path / "another"))
    charlstm("train", "--resume", "piped", "--set", "training.max_steps=16", stdin=text)
    assert len(charlstm("sample", "--length", 20, "--temp", 0, "--json").stdout) > 20
    assert json.loads(charlstm("eval", "-", "--json", stdin=text).stdout)["chars"] == len(CYRILLIC)


@pytest.mark.usefixtures("here")
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
