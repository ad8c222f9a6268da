"""`charlstm eval`: the promised figures, always the same."""

import json
from pathlib import Path

import pytest

from .commands import charlstm, metrics

pytestmark = pytest.mark.usefixtures("here")


def test_eval_gives_the_promised_figures_and_always_the_same() -> None:
    first, second = (charlstm("eval", "--json").stdout for _ in range(2))
    assert first == second
    figures = json.loads(first)
    how = ["chars", "protocol", "lanes", "reread_chars", "split"]
    assert list(figures) == ["loss", "bits_per_char", "perplexity", "accuracy", *how]
    assert (figures["chars"], figures["protocol"], figures["split"]) == (600, "stream", "val")
    assert figures["loss"] == pytest.approx(metrics(Path("runs/tiny"))[-1]["val_loss"], rel=1e-5)
    assert json.loads(charlstm("eval", "--json", "--split", "test").stdout)["chars"] == 600
    assert json.loads(charlstm("eval", "--json", "--protocol", "windows").stdout)["protocol"] == "windows"
    assert json.loads(charlstm("eval", "text.txt", "--json").stdout)["split"] is None
