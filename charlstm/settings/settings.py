"""Settings: frozen and typed, read from YAML and dotted overrides, refused in one sentence when wrong.

The classes hold each setting's name, type, range, default and description, once; the reader, the JSON Schema, the
reference page and the help of the commands all derive from them.
"""

import difflib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta, inspect

from charlstm.errors import SettingsError
from charlstm.settings.yaml12 import dump_yaml, plain, read_yaml

DEFAULT_MINUTES = 1.0  # of training, when the settings set no limit at all
MAX_SETTINGS_BYTES = 100_000  # fifty times the longest sensible file; PyYAML needs seconds for a megabyte

Count: TypeAlias = Annotated[int, Meta(ge=1)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Text: TypeAlias = Annotated[str, Meta(min_length=1)]
Cell: TypeAlias = Literal["lstm", "peephole", "peephole-full", "gru", "rnn"]


class DataSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is read, and how it becomes ids."""

    sources: Annotated[
        tuple[Text, ...],
        Meta(
            min_length=1, description="files, folders, globs, - for stdin, or a corpus: python-stdlib, tinyshakespeare"
        ),
    ] = ("python-stdlib",)
    unit: Annotated[Literal["char", "byte"], Meta(description="what one id stands for")] = "char"
    split: Annotated[
        tuple[Share, Share, Share],
        Meta(description="shares of the text, in order, that train, validate and test; they sum to 1"),
    ] = (0.9, 0.1, 0.0)
    min_count: Annotated[
        Count, Meta(description="characters met fewer times than this become the one unknown symbol (char only)")
    ] = 1
    unknown: Annotated[
        Literal["error", "skip", "replace"],
        Meta(description="what happens to a character outside the vocabulary, in any text and prompt"),
    ] = "error"
    newline: Annotated[
        Literal["keep", "unify"], Meta(description='line ends as they stand, or all turned into "\\n"')
    ] = "keep"


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network: embedding, recurrent layers, linear output."""

    cell: Annotated[Cell, Meta(description="the recurrent cell")] = "lstm"
    kernel: Annotated[
        Literal["auto", "builtin", "unrolled"],
        Meta(description="torch's kernel, or the cell's equations step by step; auto: torch's where it has the cell"),
    ] = "auto"
    objective: Annotated[
        Literal["next", "cloze"],
        Meta(description="predict the next character, or each one from those before and after it (bidirectional only)"),
    ] = "next"
    bidirectional: Annotated[bool, Meta(description="a second stack of layers reads the text backwards")] = False
    embedding_size: Annotated[Count, Meta(description="numbers that stand for one character on the way in")] = 128
    hidden_size: Annotated[Count, Meta(description="units of each recurrent layer")] = 256
    num_layers: Annotated[int, Meta(ge=1, le=100, description="recurrent layers, one on top of the other")] = 2
    dropout: Annotated[
        float,
        Meta(ge=0, lt=1, description="share of each layer's outputs dropped on the way to the next, one mask a window"),
    ] = 0.1
    forget_bias: Annotated[float, Meta(ge=-100, le=100, description="initial bias of the forget gate")] = 1.0


class TrainingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the network learns, how long, and what is recorded on the way."""

    batch_size: Annotated[Count, Meta(description="lanes: contiguous parts of the text read side by side")] = 64
    sequence_length: Annotated[
        Count, Meta(description="characters of each lane in a step, the reach of the gradient back in time")
    ] = 128
    optimizer: Annotated[Literal["adamw", "adam"], Meta(description="rule that moves the weights")] = "adamw"
    learning_rate: Annotated[float, Meta(gt=0, description="highest step size, reached after the warm-up")] = 0.004
    weight_decay: Annotated[
        float, Meta(ge=0, description="decoupled weight decay of the weight matrices (adamw only)")
    ] = 0.1
    schedule: Annotated[
        Literal["cosine", "constant"], Meta(description="course of the learning rate after the warm-up")
    ] = "cosine"
    warmup_steps: Annotated[int, Meta(ge=0, description="steps over which the learning rate rises from zero")] = 50
    clip_norm: Annotated[
        Annotated[float, Meta(gt=0)] | None, Meta(description="longest gradient a step may follow; null: no clipping")
    ] = 1.0
    max_steps: Annotated[Count | None, Meta(description="steps before training ends; null: no such limit")] = None
    max_epochs: Annotated[
        Count | None, Meta(description="passes over the training text before training ends; null: no such limit")
    ] = None
    max_minutes: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(description="minutes before training ends; null: no such limit, or 1 if there is no other"),
    ] = None
    log_every_steps: Annotated[Count, Meta(description="steps between two lines of metrics")] = 10
    validate_every_steps: Annotated[Count, Meta(description="steps between two validations on the whole split")] = 200
    save_every_steps: Annotated[Count, Meta(description="steps between two checkpoints")] = 200
    patience: Annotated[
        Count | None, Meta(description="validations without a new best before training stops; null: never")
    ] = None
    sample_length: Annotated[
        Count | None, Meta(description="characters sampled and shown at each validation; null: none")
    ] = None
    seed: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="start of every random number: initial weights and dropout")
    ] = 1
    device: Annotated[Literal["auto", "cpu", "cuda"], Meta(description="where training runs; auto: a GPU if any")] = (
        "auto"
    )
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Meta(description="arithmetic of the matrix products; auto: bf16 where it is faster"),
    ] = "auto"
    shards: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="parts of a batch, each computed by one thread; they decide the bits; auto: the fastest here"),
    ] = "auto"
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | Literal["auto"],
        Meta(description="shards computed at once, which changes no bit; auto: as many as there are cores"),
    ] = "auto"


class SamplingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How text is drawn from the model, unless the command says otherwise."""

    temperature: Annotated[
        float, Meta(ge=0, description="divides the logits: below 1 safer, above 1 bolder, 0 the likeliest character")
    ] = 0.8
    top_k: Annotated[Count | None, Meta(description="draw among the k likeliest characters; null: among all")] = 10
    top_p: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="draw among the likeliest characters that together hold this probability; null: among all"),
    ] = None
    length: Annotated[int, Meta(ge=0, description="characters generated; 0: until the reader closes the pipe")] = 500


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides a run, in four sections."""

    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: SamplingSettings = SamplingSettings()


def load_settings(path: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """Settings of a YAML file (of the defaults for None) with `section.name=value` overrides on top.

    Raises SettingsError, one sentence with file and line, for anything that is not a valid settings file.
    """
    if path is None:
        return parse_settings(b"", where="defaults", overrides=overrides)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{plain(str(path))}: the settings cannot be read: {reason}") from error
    return parse_settings(text, where=plain(str(path)), overrides=overrides)


def parse_settings(text: bytes, *, where: str, overrides: Sequence[str] = ()) -> Settings:
    """Settings of YAML text, which errors call `where`, with overrides on top.

    Whatever the bytes, the answer is a Settings or a SettingsError.
    """
    if len(text) > MAX_SETTINGS_BYTES:
        raise SettingsError(f"{where} is longer than {MAX_SETTINGS_BYTES:,} bytes, which no settings file should be")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{text[error.start]:02x} is not UTF-8"
        raise SettingsError(f"{where}:{line}: {found}, but settings must be saved as UTF-8") from error
    given = [*_given_in_yaml(decoded, where), *map(_given_by_override, overrides)]
    return _with_given(Settings(), given, where=where)


def override_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """The settings with `section.name=value` overrides on top."""
    return _with_given(settings, list(map(_given_by_override, overrides)), where="the settings")


def override_setting(settings: Settings, path: str, value: Any, *, option: str) -> Settings:
    """The settings with one value that came by a command's option, which errors name."""
    return _with_given(settings, [_Given(path, value, f"{option}: ")], where=option)


def dump_settings(settings: Settings) -> str:
    """Every setting as YAML that `parse_settings` reads back to an equal value."""
    return dump_yaml(msgspec.to_builtins(settings))


def settings_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a settings file, for editors that complete and check."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Settings)}


def settings_reference() -> str:
    """Markdown tables, one a section: each setting with its values, default and description."""
    tables = []
    for section in msgspec.structs.fields(Settings):
        rows = [
            f"| `{section.name}.{field.name}` | {_expected(_KINDS[f'{section.name}.{field.name}'])} "
            f"| `{_shown(field.default)}` | {describe(section.type, field.name)} |"
            for field in msgspec.structs.fields(section.type)
        ]
        tables.append("\n".join(["| setting | value | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(tables) + "\n"


def describe(section_type: type[msgspec.Struct], field: str) -> str:
    """The one-line description of a setting."""
    (found,) = (item for item in msgspec.structs.fields(section_type) if item.name == field)
    return next(str(meta.description) for meta in found.type.__metadata__ if meta.description)


_SECTIONS = {section.name: section.type for section in msgspec.structs.fields(Settings)}
_TYPES = {
    f"{name}.{field.name}": field.type for name, kind in _SECTIONS.items() for field in msgspec.structs.fields(kind)
}
_KINDS = dict(zip(_TYPES, inspect.multi_type_info(_TYPES.values()), strict=True))


def _contradictions(settings: Settings) -> Iterator[tuple[str, str]]:
    """Every check across fields: the dotted path to blame, and what is wrong from there on."""
    data = settings.data
    if abs(sum(data.split) - 1) > 1e-6:
        yield "data.split", f"data.split sums to {sum(data.split):.7g}, but its three shares must sum to 1"
    if data.split[0] == 0:
        yield "data.split", "data.split leaves nothing to train on, but its first share must be above 0"
    if data.unit == "byte" and data.min_count > 1:
        yield "data.min_count", f"data.min_count is {data.min_count}, but must be 1 where data.unit is byte"

    if settings.model.kernel == "builtin" and settings.model.cell.startswith("peephole"):
        blame = "model.kernel is builtin, but torch has no kernel for"
        yield "model.kernel", f"{blame} {settings.model.cell}: it must be auto or unrolled"

    if settings.model.bidirectional and settings.model.objective == "next":
        blame = "model.bidirectional is true, so the model sees the next character that model.objective next asks for"
        yield "model.bidirectional", f"{blame}: set model.objective to cloze, or model.bidirectional to false"
    if settings.model.objective == "cloze" and not settings.model.bidirectional:
        blame = "model.objective is cloze, which looks at the text on both sides of a character"
        yield "model.objective", f"{blame}: set model.bidirectional to true as well"


def _with_given(base: Settings, given: Sequence["_Given"], *, where: str) -> Settings:
    """The base with what the user gave, each value checked, and all of them together."""
    values = msgspec.to_builtins(base)
    for item in given:
        section, _, name = item.path.partition(".")
        values[section][name] = _checked(item)
    training = values["training"]
    if all(training[name] is None for name in ("max_steps", "max_epochs", "max_minutes")):
        training["max_minutes"] = DEFAULT_MINUTES
    settings = msgspec.convert(values, Settings)
    places = {item.path: item.place for item in given}
    for path, problem in _contradictions(settings):
        raise SettingsError(places.get(path, f"{where}: ") + problem)
    return settings


class _Given(NamedTuple):
    """A value that the user wrote for a setting that exists."""

    path: str
    value: Any
    place: str  # what goes before the path in a sentence: "my.yaml:7: " or "--set "


def _checked(item: _Given) -> Any:
    """The value in its field's type; SettingsError says what would be right."""
    kind = _KINDS[item.path]
    with suppress(msgspec.ValidationError, UnicodeError):  # UnicodeError: a lone surrogate where a word should be
        if _is_finite(item.value):
            return msgspec.convert(item.value, _TYPES[item.path])
    problem = f"{item.place}{item.path} is {_shown(item.value)}, but must be {_expected(kind)}"
    if isinstance(_bare(kind), inspect.VarTupleType) and isinstance(item.value, str):
        problem += f": write [{_shown(item.value)}]"
    raise SettingsError(problem)


def _is_finite(value: Any) -> bool:
    return all(math.isfinite(x) for x in (value if isinstance(value, list) else [value]) if isinstance(x, float))


def _bare(kind: inspect.Type) -> inspect.Type:
    return kind.type if isinstance(kind, inspect.Metadata) else kind


def _expected(kind: inspect.Type) -> str:
    """What a field takes, in words, from its type and range."""
    match _bare(kind):
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.StrType():
            return "text"
        case inspect.LiteralType(values=values):
            *others, last = map(_shown, values)
            return f"{', '.join(others)} or {last}" if others else last
        case inspect.UnionType(types=kinds):
            return ", or ".join(map(_expected, kinds))
        case inspect.VarTupleType(item_type=item):
            return f"a list of one or more {_expected(item)}s"
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)}, each {_expected(items[0])}"
        case inspect.IntType() | inspect.FloatType() as number:
            noun = "an integer" if isinstance(number, inspect.IntType) else "a number"
            bounds = {"above": number.gt, "of at least": number.ge, "below": number.lt, "at most": number.le}
            limits = [f"{words} {bound}" for words, bound in bounds.items() if bound is not None]
            return " ".join([noun, " and ".join(limits)]).rstrip()
        case other:
            raise AssertionError(f"no words for {other}")


def _shown(value: Any) -> str:
    """A value as the user may have written it, on one line and not long."""
    match value:
        case str():
            return f'"{plain(value)}"'
        case dict():
            return "a mapping"
        case list() | tuple():
            return f"[{', '.join(map(_shown, value[:5]))}{', …' * (len(value) > 5)}]"
        case float() if not math.isfinite(value):
            return "not a number" if math.isnan(value) else "too large a number"
        case _:
            return json.dumps(value)


def _unknown(path: str) -> str:
    """The sentence for a path that is no setting, with where it belongs or the nearest one."""
    leaf = path.rpartition(".")[2]
    leaves = {known.rpartition(".")[2]: known for known in (*_KINDS, *_SECTIONS)}
    if path in _SECTIONS:
        example = next(known for known in _KINDS if known.startswith(path))
        return f"{path} is not a setting but a section; name one of its settings, as in {example}"
    if leaf in leaves and "." in leaves[leaf]:
        hint = f"{leaf} belongs under {leaves[leaf].partition('.')[0]} ({leaves[leaf]})"
    elif near := difflib.get_close_matches(leaf, leaves, n=1):
        hint = f"did you mean {leaves[near[0]]}?"
    else:
        hint = f"the sections are {', '.join(_SECTIONS)}, and `charlstm config schema` lists their settings"
    return f"{plain(path)} is not a setting; {hint}"


def _given_by_override(override: str) -> _Given:
    """`section.name=value`: text and words stand as they are, anything else is read as YAML."""
    path, equals, raw = override.partition("=")
    path = path.strip()
    if not equals:
        raise SettingsError(f"--set {plain(override)} has no =, but must be like training.learning_rate=0.002")
    if path not in _KINDS:
        raise SettingsError(f"--set {_unknown(path)}")
    kind = _bare(_KINDS[path])
    if isinstance(kind, inspect.StrType | inspect.LiteralType):
        value: Any = raw
    elif isinstance(kind, inspect.VarTupleType) and not raw.startswith("["):
        value = [raw]
    else:
        value = read_yaml(raw, lambda _: f"--set {path}: ").value
    return _Given(path, value, "--set ")


def _given_in_yaml(text: str, where: str) -> Iterator[_Given]:
    """The settings that a YAML document gives, in its order; an empty document or section gives none."""
    root = read_yaml(text, lambda line: f"{where}:{line}: ")
    if not isinstance(root.value, dict | None):
        problem = f"the settings are {_shown(root.value)}, but must be a mapping of {', '.join(_SECTIONS)}"
        raise SettingsError(f"{where}:{root.line}: {problem}")
    for section, (settings, line) in (root.value or {}).items():
        if section not in _SECTIONS:
            raise SettingsError(f"{where}:{line}: {_unknown(section)}")
        if not isinstance(settings, dict | None):
            problem = f"{section} is {_shown(settings)}, but must be a mapping of settings to values"
            raise SettingsError(f"{where}:{line}: {problem}")
        for name, (value, name_line) in (settings or {}).items():
            if (path := f"{section}.{name}") not in _KINDS:
                raise SettingsError(f"{where}:{name_line}: {_unknown(path)}")
            yield _Given(path, value, f"{where}:{name_line}: ")
