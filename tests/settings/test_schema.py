"""The schema of the settings, and what is made of it: the reference page, schema.json and the shipped files."""

import json
from pathlib import Path

import msgspec
import pytest

from charlstm.settings import Settings, load_settings, parse_settings, read_yaml, settings_reference, settings_schema

CONFIGS = Path(__file__).parents[2] / "configs"
FIELDS = {
    f"{section.name}.{field.name}": field
    for section in msgspec.structs.fields(Settings)
    for field in msgspec.structs.fields(section.type)
}


def written(text: str) -> dict[str, object]:
    """The values of a settings file by their dotted paths."""
    sections = read_yaml(text, str).value.values()
    return {field.path: field.value for section in sections for field in section.value.values()}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_settings_shipped_file_holds_only_what_differs_from_the_defaults(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    settings, defaults = (msgspec.to_builtins(which) for which in (load_settings(path), Settings()))
    assert written(text)
    for dotted in written(text):
        section, name = dotted.split(".")
        assert settings[section][name] != defaults[section][name], dotted
    lines = text.splitlines()
    assert lines[0] == "# yaml-language-server: $schema=schema.json"
    assert all("  # " in line for line in lines if line.startswith("  ")), "a value without its reason"


def test_settings_committed_schema_is_the_schema_of_the_settings() -> None:
    """Refresh it with `charlstm config schema > configs/schema.json`."""
    committed = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert committed == json.dumps(settings_schema(), indent=2) + "\n"


def test_settings_schema_refers_only_to_itself() -> None:
    schema = settings_schema()
    references = [line.split('"')[3] for line in json.dumps(schema, indent=0).splitlines() if '"$ref"' in line]
    assert set(references) == {f"#/$defs/{name}" for name in schema["$defs"]}


@pytest.mark.parametrize("path", FIELDS)
def test_settings_each_has_a_short_description_and_a_row_of_the_reference(path: str) -> None:
    (row,) = (line for line in settings_reference().splitlines() if line.startswith(f"| `{path}` |"))
    assert row.count("|") == 5
    description = row.split(" | ")[-1].removesuffix(" |")
    assert 10 < len(description) <= 100
    assert msgspec.inspect.type_info(FIELDS[path].type).extra_json_schema["description"] == description


def test_settings_reference_says_type_range_and_default() -> None:
    rows = settings_reference().splitlines()
    assert any(row.startswith("| `sampling.top_k` | an integer of at least 1, or null | `10` |") for row in rows)
    assert any(row.startswith("| `model.dropout` | a number of at least 0 and below 1 | `0.1` |") for row in rows)
    assert any('| "error", "skip" or "replace" |' in row or '| "error", "replace" or "skip" |' in row for row in rows)


def test_settings_defaults_are_those_the_readme_promises() -> None:
    promised = """
data:     {sources: [python-stdlib], documents: stream, field: null, column: null, shuffle: true, deduplicate: keep,
           unit: char, split: [0.9, 0.1, 0.0], min_count: 1, unknown: error, newline: keep,
           normalize: none}
model:    {cell: lstm, kernel: auto, objective: next, bidirectional: false,
           embedding_size: 128, hidden_size: 256, num_layers: 2, skip_connections: true, dropout: 0.1,
           recurrent_dropout: 0.0, forget_bias: 1}
training: {batch_size: 64, beginning_lanes: auto, sequence_length: 64, segment_steps: 16, optimizer: muon,
           learning_rate: auto, weight_decay: 0.1, schedule: cosine, warmup_steps: 5, clip_norm: 1.0, max_steps: null,
           max_epochs: null, max_minutes: 1, log_every_steps: 10, validate_every_steps: 200, save_every_steps: 200,
           patience: null, sample_length: null, gradient_compression: none, local_steps: 1,
           seed: 1, device: auto, precision: auto, shards: auto, threads: auto, threads_per_shard: auto}
sampling: {temperature: 0.8, top_k: 10, top_p: null, length: 500, weights: float32}
"""
    assert written(promised).keys() == FIELDS.keys()
    assert parse_settings(promised.encode(), where="README") == load_settings(None)
