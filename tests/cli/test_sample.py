"""`charlstm sample`: the text alone, as long as was asked for, the same for the same seed."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from charlstm.inference.sampling import sample_seeds

from .commands import charlstm

pytestmark = pytest.mark.usefixtures("here")


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
        command = ["sample", "--length", length, "--seed", 2, "--prompt", "The tide"]
        text, bare, line = (charlstm(*command, *how).stdout for how in ([], ["--no-echo"], ["--no-echo", "--json"]))
        assert text.endswith("\n")
        assert text == "The tide" + bare
        told = json.loads(line)
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


def test_sample_begins_after_a_line_end_unless_it_is_cold() -> None:
    sample = ["sample", "--seed", 1, "--no-echo", "--json"]  # with the probabilities, which tell states apart
    usual = charlstm(*sample, "--prompt", "The tide").stdout
    assert charlstm(*sample, "--cold", "--prompt", "\nThe tide").stdout == usual
    assert charlstm(*sample, "--cold", "--prompt", "The tide").stdout != usual
    assert json.loads(charlstm("sample", "--cold", "--length", 9, "--json").stdout)["text"][8:]


def test_sample_json_is_one_object_a_sample_each_as_if_it_were_alone() -> None:
    options = ["--length", 60, "--stop", "e", "--json"]
    lines = charlstm("sample", "--seed", 3, "--samples", 70, *options).stdout.splitlines()
    assert [json.loads(line)["seed"] for line in lines] == list(islice(sample_seeds(3), 70))
    for line in lines[::23]:
        one = json.loads(line)
        assert one.keys() == {"text", "seed", "mean_log_prob"}
        assert one["mean_log_prob"] < 0 if one["text"] else one["mean_log_prob"] is None
        assert "e" not in one["text"]
        assert json.loads(charlstm("sample", "--seed", one["seed"], *options).stdout) == pytest.approx(one)


def test_sample_takes_the_likeliest_at_temperature_0_and_with_one_candidate() -> None:
    texts = {charlstm("sample", *how).stdout for how in (["--temp", 0], ["--top-k", 1], ["--temp", 0, "--seed", 9])}
    assert len(texts) == 1


def test_sample_takes_its_defaults_from_the_run() -> None:
    charlstm("train", "tiny.yaml", "--set", "sampling.length=17", "--set", "sampling.temperature=0")
    assert len(charlstm("sample").stdout.removesuffix("\n")) in (16, 17)
    assert len(charlstm("sample", "--set", "sampling.length=9").stdout.removesuffix("\n")) in (8, 9)


def test_sample_tells_several_texts_apart() -> None:
    sample = ["sample", "--seed", 1, "-n", 40]
    texts = [json.loads(line)["text"] for line in charlstm(*sample, "--samples", 3, "--json").stdout.splitlines()]
    lines = [text if text.endswith("\n") else text + "\n" for text in texts]
    assert charlstm(*sample, "--samples", 3).stdout == "".join(lines)
    assert charlstm(*sample, "--samples", 3, "--separator", "-- ").stdout == "-- \n".join(lines)
    assert charlstm(*sample, "--samples", 3, "-0").stdout == "".join(text + "\0" for text in texts)
    assert charlstm(*sample, "--null").stdout == texts[0] + "\0"


def test_sample_quiet_says_nothing_and_short_options_are_the_long_ones() -> None:
    assert charlstm("sample", "-q").stderr == ""
    short = charlstm("sample", "-n", 20, "-t", 0.5, "-k", 3, "-p", "The", "--seed", 1).stdout
    long = ["--length", 20, "--temp", 0.5, "--top-k", 3, "--prompt", "The", "--seed", 1]
    assert charlstm("sample", *long).stdout == short


def test_sample_interactive_answers_each_line_afresh_and_goes_on_after_one_that_it_cannot() -> None:
    sample = ["sample", "-n", 30]
    told = charlstm(*sample, "-i", "--seed", 5, stdin="The tide\n\u00a1\nand\n", expect=3)
    alone = [
        charlstm(*sample, "--seed", 5, "-p", "The tide").stdout,
        charlstm(*sample, "--seed", 7, "-p", "and").stdout,
    ]
    assert told.stdout == "".join(alone)
    assert told.stderr.startswith("charlstm: unknown to the vocabulary")
    assert told.stderr.endswith("1 of the prompts could not be read, and have no answer: correct them\n")


@pytest.mark.usefixtures("here")
def test_sample_in_parts_gives_the_same_texts() -> None:
    def sample(*more: str) -> list[dict[str, Any]]:
        lines = charlstm("sample", "--samples", 7, "-n", 20, "--seed", 3, "--json", "-q", *more).stdout.splitlines()
        return [json.loads(line) for line in lines]

    whole, parts = sample(), [sample("--shard", f"{part}/3") for part in (1, 2, 3)]
    for part, found in enumerate(parts):
        assert [(one["text"], one["seed"]) for one in found] == [(one["text"], one["seed"]) for one in whole[part::3]]
        assert [one["mean_log_prob"] for one in found] == pytest.approx(
            [one["mean_log_prob"] for one in whole[part::3]]
        )
    assert sample("--shard", "8/9") == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/3/2", "-1/3"])
def test_sample_refuses_parts_that_are_none(shard: str) -> None:
    assert "--shard is" in charlstm("sample", "--seed", 1, f"--shard={shard}", expect=2).stderr


def test_sample_with_int8_weights_is_the_same_text_for_the_same_seed_drawn_by_other_numbers() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[int8]'")
    options = ["sample", "--seed", 4, "--length", 60, "--json"]
    exact, first, second = (
        json.loads(charlstm(*options, *how).stdout) for how in ([], *[["--set", "sampling.weights=int8"]] * 2)
    )
    assert first == second
    assert len(first["text"]) == 60
    assert first["mean_log_prob"] != exact["mean_log_prob"]
    assert first["mean_log_prob"] == pytest.approx(exact["mean_log_prob"], rel=0.3)


@pytest.mark.parametrize("how", [[], ["--lines"], ["--prefix", "T"]])
def test_sample_refuses_int8_weights_for_several_texts(how: list[str]) -> None:
    result = charlstm("sample", "--samples", 3, "--set", "sampling.weights=int8", *how, expect=2)
    assert result.stdout == ""
    assert result.stderr.endswith(
        "sampling.weights is int8, which draws one text at a time, but 3 are asked for: set it to float32\n"
    )
