"""The reader: what is read as settings, what is refused and in which words, and that what is dumped is read back."""

import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from charlstm.errors import SettingsError
from charlstm.settings import (
    Settings,
    TrainingSettings,
    dump_settings,
    load_asked_settings,
    load_settings,
    override_setting,
    override_settings,
    parse_settings,
)

from .test_schema import FIELDS, written


def parse(text: str | bytes, *overrides: str) -> Settings:
    return parse_settings(text.encode() if isinstance(text, str) else text, where="my.yaml", overrides=overrides)


def refusal(text: str | bytes, *overrides: str) -> str:
    with pytest.raises(SettingsError) as caught:
        parse(text, *overrides)
    return str(caught.value)


def outcome(text: str | bytes, *overrides: str) -> Settings | str:
    try:
        return parse(text, *overrides)
    except SettingsError as error:
        return str(error)


# What is read


@pytest.mark.parametrize(
    "text",
    [b"", b"# only a comment\n", b"---\n", b"null", b"{}", b"training:\n", b"training: null\ndata: ~", b"\xef\xbb\xbf"],
)
def test_settings_what_is_left_out_is_the_default(text: bytes) -> None:
    assert parse(text) == load_settings(None)
    assert parse(text).training.max_minutes == 1.0


@pytest.mark.parametrize(
    ("written", "read"),
    [*zip(("1e-3", "1E+1", ".5", "2.", "3", "+3"), (0.001, 10.0, 0.5, 2.0, 3.0, 3.0), strict=True)]
    + [(written, 17.0) for written in ("017", "0x11", "0o21")],
)
def test_settings_numbers_follow_yaml_1_2(written: str, read: float) -> None:
    assert parse(f"training: {{learning_rate: {written}}}").training.learning_rate == read
    assert parse("", f"training.learning_rate={written}").training.learning_rate == read


def test_settings_every_style_of_yaml_gives_the_same() -> None:
    block = 'training:\n  seed: 7\n  threads: "auto"\ndata:\n  sources:\n  - a.txt\n  - "b: c"\n'
    flow = "%YAML 1.2\n---\n{training: {seed: 7}, data: {sources: [a.txt, 'b: c']}}\n...\n"
    assert parse(block) == parse(flow) == parse("\ufeff" + block.replace("\n", "\r\n"))
    assert parse(block).data.sources == ("a.txt", "b: c")
    assert parse("data: {sources: my text.txt}").data.sources == ("my text.txt",)


# Overrides


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.sources=-", ("-",)),
        ("data.sources=my text.txt", ("my text.txt",)),
        ("data.sources=1984", ("1984",)),
        ("data.sources=[a.txt, 'b, c']", ("a.txt", "b, c")),
        ("data.split=[0.5, 0.25, 0.25]", (0.5, 0.25, 0.25)),
        ("data.unknown=error", "error"),
        ("training.threads=auto", "auto"),
        ("training.threads=3", 3),
        ("training.clip_norm=null", None),
        ("training.max_minutes=2", 2.0),
        ("sampling.top_p=0.5", 0.5),
        (" training.seed =0x10", 16),
    ],
)
def test_settings_override_is_typed_by_its_field(override: str, value: object) -> None:
    section, name = override.partition("=")[0].strip().split(".")
    found = getattr(getattr(parse("", override), section), name)
    assert found == value
    assert type(found) is type(value)


def test_settings_override_wins_over_the_file_and_the_last_over_the_first() -> None:
    settings = parse("training: {seed: 2, batch_size: 3}", "training.seed=5", "training.seed=7")
    assert (settings.training.seed, settings.training.batch_size) == (7, 3)
    assert refusal("\ntraining: {seed: -1}", "training.seed=5").startswith("my.yaml:2: training.seed is -1, but")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("training.learning_rate=0", '--set training.learning_rate is 0, but must be a number above 0, or "auto"'),
        ("training.learning_rate=", '--set training.learning_rate is null, but must be a number above 0, or "auto"'),
        (
            "training.learning_rate=fast",
            '--set training.learning_rate is "fast", but must be a number above 0, or "auto"',
        ),
        ("training.seed", "--set training.seed has no =, but must be like training.learning_rate=0.002"),
        ("training.sed=1", "--set training.sed is not a setting; did you mean training.seed?"),
        ("seed=1", "--set seed is not a setting; did you mean training.seed?"),
        ("model.seed=1", "--set model.seed is not a setting; did you mean training.seed?"),
        ("model=1", "--set model is not a setting but a section; name one of its settings, as in model.cell"),
        ("data.unit=bytes", '--set data.unit is "bytes", but must be "byte" or "char"'),
        ("data.unit=\udcff", '--set data.unit is "\\udcff", but must be "byte" or "char"'),
        ("data.sources=", "--set data.sources is null, but must be a list of one or more texts"),
        ("data.sources=[a", "--set data.sources: this is not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("data.split=[1, 0, 0.5]", "--set data.split sums to 1.5, but its three fractions must sum to 1"),
        ("training.threads=\udcff", "--set training.threads: character U+DCFF may not stand in YAML"),
    ],
)
def test_settings_wrong_override_is_named(override: str, sentence: str) -> None:
    assert refusal("", override) == sentence


# What is refused

BAD_FILES = {
    # types and ranges
    "training:\n  seed: 3\n  batch_size: many": '3: training.batch_size is "many", but must be an integer of at least',
    "training: {batch_size: 0}": "1: training.batch_size is 0, but must be an integer of at least 1",
    "training: {batch_size: 1.5}": "1: training.batch_size is 1.5, but must be an integer of at least 1",
    "training: {batch_size: true}": "1: training.batch_size is true, but must be an integer of at least 1",
    "training: {batch_size: '8'}": '1: training.batch_size is "8", but must be an integer of at least 1',
    "training: {batch_size: 1:30}": '1: training.batch_size is "1:30", but must be an integer of at least 1',
    "training:\n  batch_size:\n": "2: training.batch_size is null, but must be an integer of at least 1",
    "training: {seed: -1}": "1: training.seed is -1, but must be an integer of at least 0 and at most 922337203685477",
    "training: {seed: 9223372036854775808}": "1: training.seed is too large a number, but must be an integer",
    "training: {threads: 0}": "1: training.threads is 0, but must be an integer of at least 1 and at most 1024",
    "training: {threads: all}": '1: training.threads is "all", but must be an integer of at least 1 and at most 1024',
    "training: {learning_rate: .inf}": "1: training.learning_rate is too large a number, but must be a number above 0",
    "training: {learning_rate: .nan}": "1: training.learning_rate is not a number, but must be a number above 0",
    "training: {clip_norm: -.Inf}": "1: training.clip_norm is too large a number, but must be a number above 0, or",
    "model: {dropout: 1}": "1: model.dropout is 1, but must be a number of at least 0 and below 1",
    "model: {cell: gates}": '1: model.cell is "gates", but must be "gru", "lstm", "peephole", "peephole-full" or "rnn"',
    "model: {bidirectional: no}": '1: model.bidirectional is "no", but must be true or false',
    "model:\n  bidirectional: true": "2: model.bidirectional is true, so the model sees the next character",
    "model:\n  objective: cloze": "2: model.objective is cloze, which looks at the text on both sides",
    "model: {cell: peephole,\n  kernel: builtin}": "2: model.kernel is builtin, but torch has no kernel for peephole",
    "sampling: {top_p: 0}": "1: sampling.top_p is 0, but must be a number above 0 and at most 1, or null",
    "sampling: {top_k: no}": '1: sampling.top_k is "no", but must be an integer of at least 1, or null',
    "data: {newline: unify}": '1: data.newline is "unify", but must be "keep" or "normalize"',
    "data: {sources: ''}": '1: data.sources is "", but must be a list of one or more texts',
    "data: {sources: []}": "1: data.sources is [], but must be a list of one or more texts",
    "data: {split: [0.9, 0.1]}": "1: data.split is [0.9, 0.1], but must be a list of 3, each a number of at least 0",
    'data: {unit: "a\\e[31m\\n"}': r'1: data.unit is "a\x1b[31m\n", but must be "byte" or "char"',
    # names
    "training:\n  learning_rte: 1": "2: training.learning_rte is not a setting; did you mean training.learning_rate?",
    "model:\n\n  learning_rate: 1": "3: model.learning_rate is not a setting; did you mean training.learning_rate?",
    "\ntrainning: {}": "2: trainning is not a setting; did you mean training?",
    "batch_size: 3": "1: batch_size is not a setting; did you mean training.batch_size?",
    # across fields
    "data:\n  split: [0.8, 0.1, 0.0]": "2: data.split sums to 0.9, but its three fractions must sum to 1",
    "data: {split: [0, 1, 0]}": "1: data.split leaves nothing to train on, but its first fraction must be above 0",
    "data:\n  unit: byte\n  min_count: 2": "3: data.min_count is 2, but must be 1 where data.unit is byte",
    # YAML itself
    "data:\n  unit: byte\n\n  unit: char": "4: data.unit is given twice, here and on line 2",
    "data: {}\n\ndata: {}": "3: data is given twice, here and on line 1",
    "data: &a {}\nmodel: *a": "1: anchors and aliases (& and *) are not read, but only the value itself",
    "data: {unit: !!str char}": "1: tags (tag:yaml.org,2002:str) are not read, but only the plain value",
    "data:\n  !boom unit: char": "2: a key must be a plain word",
    "data: {sources: [[a]]}": '1: data.sources is [["a"]], but must be a list of one or more texts',
    "\na: {b: {c: {d: {e: {f: {g: 1}}}}}}": "2: this is nested too deep, but may be 6 lists and mappings deep",
    "data: {}\n---\nmodel: {}\n": "3: a second document begins here",
    "- data": '1: this file is ["data"], but must be a mapping of data, model, training, sampling',
    "\nhello": '2: this file is "hello", but must be a mapping',
    "data: 3": "1: data is 3, but must be a mapping of sources, documents, field, column, shuffle, deduplicate",
    "model: Auto": '1: model is "Auto", but must be auto, or a mapping of settings',
    "data:\n  unit: [": "2: this is not valid YAML: ",
    "data:\n\tunit: char": "2: this is not valid YAML: found character '\\t' that cannot start any token",
    'data:\n  unit: "\\UFFFFFFFF"': "2: this is not valid YAML: its number is out of range",
    "data:\n  unit: a\x07": "2: character U+0007 may not stand in YAML",
}


@pytest.mark.parametrize(("text", "sentence"), BAD_FILES.items())
def test_settings_wrong_file_is_refused_with_its_line(text: str, sentence: str) -> None:
    found = refusal(text)
    assert found.startswith(f"my.yaml:{sentence}")
    assert found.isprintable()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"data:\n  unit: \xff", "my.yaml:2: byte 0xff is not UTF-8, but the settings must be saved as UTF-8"),
        ("data: {}".encode("utf-16"), "my.yaml:1: byte 0xff is not UTF-8"),
        (b"#" * 200_000, "my.yaml is longer than 100,000 bytes"),
        (b"training: {seed: " + b"9" * 5000 + b"}", "my.yaml:1: training.seed is too large a number"),
        (b"[" * 50_000, "my.yaml:1: this is nested too deep"),
        (b"{a: " * 10_000, "my.yaml:1: this is nested too deep"),
        (b"- " * 50_000, "my.yaml:1: this is nested too deep"),
        (b"%YAML 1." + b"9" * 5000 + b"\n--- {}", "my.yaml:1: this is not valid YAML: "),
        (b"k" * 900 + b": 1", "my.yaml:1: kkkk"),
    ],
    ids=["byte", "utf-16", "long", "digits", "lists", "mappings", "items", "version", "key"],
)
def test_settings_hostile_bytes_are_refused_in_one_short_sentence(text: bytes, sentence: str) -> None:
    found = refusal(text)
    assert found.startswith(sentence)
    assert len(found) < 250


def test_settings_a_limit_of_steps_replaces_the_one_minute() -> None:
    assert parse("training: {max_steps: 5}").training.max_minutes is None
    assert parse("training: {max_epochs: 5}").training.max_minutes is None
    assert parse("training: {max_steps: 5, max_minutes: 2}").training.max_minutes == 2.0


def test_settings_options_and_overrides_change_settings_and_are_checked() -> None:
    base = load_settings(None)
    assert override_setting(base, "sampling.top_k", 3, option="--top-k").sampling.top_k == 3
    assert override_settings(base, ["sampling.top_k=null"]).sampling.top_k is None
    with pytest.raises(
        SettingsError, match=r"--temp: sampling\.temperature is -1\.0, but must be a number of at least 0"
    ):
        override_setting(base, "sampling.temperature", -1.0, option="--temp")
    builtin = override_settings(base, ["model.kernel=builtin"])
    with pytest.raises(
        SettingsError, match=r"^the settings: model\.kernel is builtin, but torch has no kernel for peep"
    ):
        override_settings(builtin, ["model.cell=peephole"])


@pytest.mark.parametrize("name", ["missing.yaml", "", "a\0b"])
def test_settings_unreadable_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match=r"the settings cannot be read: \w+"):
        load_settings(tmp_path / name)


@given(st.binary(max_size=300))
@example(b"\x85")
@example(b'"\\ud800": 1')
@example(b"data: {unit: '\xed\x9f\xbf'}")
def test_settings_any_bytes_are_settings_or_a_settings_error(text: bytes) -> None:
    found = outcome(text)
    assert isinstance(found, Settings) or found.isprintable()


SIGNS = [*"{}[]:,-?&*!|>%@`'\"#\n \t\\~.", ": ", "\n  ", "- ", "--- ", "...", "\\U", "\\x", "\ufeff", "\x85", "\u2028"]
WORDS = ["data", "split", "sources", "training", "seed", "threads", "1", "1e9", "0x", ".nan", "null", "true", "<<"]
SCRAPS = st.sampled_from(SIGNS + WORDS)


@given(st.lists(SCRAPS, max_size=40).map("".join))
def test_settings_any_scraps_of_yaml_are_settings_or_a_settings_error(text: str) -> None:
    for overrides in ((), (f"training.seed={text}",), (f"data.sources=[{text}",), (text,)):
        found = outcome("" if overrides else text, *overrides)
        assert isinstance(found, Settings) or found.isprintable()


# What is written

ANY_SETTINGS = st.builds(
    lambda sources, rate, steps, seed, top_p, byte: msgspec.convert(
        {
            "data": {"sources": sources, "unit": "byte" if byte else "char", "split": (1 - rate, rate, 0)},
            "training": {
                "learning_rate": rate,
                "max_steps": steps,
                "max_minutes": None if steps else 1.0,
                "seed": seed,
                "threads": min(steps, 1024) if steps else "auto",
            },
            "sampling": {"top_p": top_p},
        },
        Settings,
    ),
    sources=st.lists(
        st.text(min_size=1)
        | st.sampled_from(["no", "1e-3", "0o17", "0x1", ".nan", "-", "~", "<<", "\x85", " \n", "\ud800"]),
        min_size=1,
        max_size=4,
    ),
    rate=st.floats(min_value=0, max_value=0.5, exclude_min=True),
    steps=st.none() | st.integers(1, 2**62),
    seed=st.integers(0, 2**63 - 1),
    top_p=st.none() | st.floats(min_value=math.ulp(0.0), max_value=1),
    byte=st.booleans(),
)


@given(ANY_SETTINGS)
def test_settings_dumped_settings_are_read_back_equal(chosen: Settings) -> None:
    text = dump_settings(chosen)
    assert parse(text) == chosen
    assert written(text).keys() == FIELDS.keys()


@pytest.mark.parametrize("number", [5e-324, 1e-310, 1e-5, 3e38, 1e300, 0.004, 1.0])
def test_settings_numbers_are_written_whole_also_where_torch_flushes_subnormal_ones(number: float) -> None:
    import torch

    settings = Settings(training=TrainingSettings(learning_rate=number, max_steps=1))
    torch.set_flush_denormal(True)
    try:
        text = dump_settings(settings)
    finally:
        torch.set_flush_denormal(False)
    assert parse(text) == settings


def test_settings_automatic_are_those_without_a_file_and_with_model_auto(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("model: auto\ntraining: {max_minutes: 5}\n", encoding="utf-8")
    asked = load_asked_settings(path, ["model.dropout=0.25"])
    assert asked.is_automatic
    assert {"training.max_minutes", "model.dropout"} <= asked.given
    assert "model.hidden_size" not in asked.given
    assert asked.settings == load_settings(None, ["training.max_minutes=5", "model.dropout=0.25"])
    assert load_asked_settings(None).is_automatic
    path.write_text("model: {dropout: 0.25}\n", encoding="utf-8")
    assert not load_asked_settings(path).is_automatic
    path.write_text("model: car\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"my\.yaml:1: model is \"?car"):
        load_asked_settings(path)
