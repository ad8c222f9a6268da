"""Documents and overrides → frozen structs, or one sentence: what was found, where, and what would be right.

A document is a YAML mapping that a msgspec Struct describes: each field is another Struct or a plain value. The
settings are one kind of document, worked examples another.
"""

import difflib
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args, get_origin

from msgspec import Struct, ValidationError, convert, structs, to_builtins

from charlstm.errors import SettingsError
from charlstm.settings.schema import Settings, contradictions, with_a_limit
from charlstm.settings.wording import expected, plain
from charlstm.settings.yaml12 import Located, dump_yaml, read_yaml

AUTOMATIC = "auto"  # in the place of the model's settings
MAX_SETTINGS_BYTES = 100_000  # fifty times the longest sensible file; PyYAML needs seconds for a megabyte

S = TypeVar("S", bound=Struct)


class AskedSettings(NamedTuple):
    """Settings as they were asked for: what they leave to `model: auto` may be chosen anew, what was given may not."""

    settings: Settings
    is_automatic: bool
    given: frozenset[str]  # dotted paths


def load_settings(path: Path | None, overrides: Sequence[str] = ()) -> Settings:
    """Settings of a YAML file (of the defaults for None) with `section.name=value` overrides on top.

    Raises SettingsError, one sentence with file and line, for anything that is not a valid settings file.
    """
    return load_asked_settings(path, overrides).settings


def load_asked_settings(path: Path | None, overrides: Sequence[str] = ()) -> AskedSettings:
    """As `load_settings`, with what was given; without a file the settings are automatic."""
    root = Located("", None, "defaults: ") if path is None else load_yaml(path, "the settings")
    root, is_automatic = _take_automatic(root)
    settings, given = _read_settings(root, *map(_override, overrides))
    return AskedSettings(settings, is_automatic or path is None, given)


def parse_settings(text: bytes, *, where: str, overrides: Sequence[str] = (), base: Settings | None = None) -> Settings:
    """Settings of YAML text, which errors call `where`, with overrides on top; base is for what it leaves out.

    Whatever the bytes, the answer is a Settings or a SettingsError.
    """
    root, _ = _take_automatic(parse_yaml(text, "the settings", where=where))
    return _read_settings(root, *map(_override, overrides), base=base)[0]


def override_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """The settings with `section.name=value` overrides on top."""
    return _read_settings(Located("", None, "the settings: "), *map(_override, overrides), base=settings)[0]


def override_setting(settings: Settings, path: str, value: Any, *, option: str) -> Settings:
    """The settings with one value that came by a command's option, which errors name."""
    return _read_settings(_document(path, value, f"{option}: "), base=settings)[0]


def dump_settings(settings: Settings) -> str:
    """Every setting as YAML that `parse_settings` reads back to an equal value."""
    return dump_yaml(to_builtins(settings))


def _take_automatic(root: Located) -> tuple[Located, bool]:
    """The document without `model: auto`, and whether it had that."""
    fields = root.value
    if not isinstance(fields, dict) or "model" not in fields or not isinstance(fields["model"].value, str):
        return root, False
    if fields["model"].value != AUTOMATIC:
        raise fields["model"].mismatch(f"{AUTOMATIC}, or a mapping of settings")
    return root._replace(value={**fields, "model": fields["model"]._replace(value=None)}), True


def _read_settings(*documents: Located, base: Settings | None = None) -> tuple[Settings, frozenset[str]]:
    settings, given = read_document(Settings, *documents, base=base, field_noun="a setting")
    settings = with_a_limit(settings)
    for path, problem in contradictions(settings):
        raise given.get(path, given[""]._replace(path=path)).error(problem)
    return settings, frozenset(given)


def _override(override: str) -> Located:
    """`section.name=value`: words and a single text stand as they are, anything else is read as YAML."""
    path, equals, raw = override.partition("=")
    path = path.strip() or '""'
    if not equals:
        raise SettingsError(f"--set {plain(override)} has no =, but must be like training.learning_rate=0.002")
    field_type = _paths(Settings).get(path, str)
    if section := _struct_in(field_type):
        example = f"{path}.{next(iter(_fields(section)))}"
        raise SettingsError(f"--set {path} is not a setting but a section; name one of its settings, as in {example}")
    if _fits(raw, field_type) or get_origin(get_args(field_type)[0]) is Literal:
        return _document(path, raw, "--set ")
    if _fits([raw], field_type) and not raw.startswith("["):
        return _document(path, raw, "--set ")
    return _document(path, read_yaml(raw, lambda _: f"--set {path}: ").value, "--set ")


def _document(path: str, value: Any, place: str) -> Located:
    """The document that gives one value."""
    section, _, name = path.partition(".")
    fields = Located(section or path, {name: Located(path, value, place)}, place)
    return Located("", {section: fields}, place)


def load_yaml(path: Path, name: str) -> Located:
    """The YAML in a file; errors call what it should hold by its name, "the settings". Raises SettingsError."""
    where = plain(str(path))
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{where}: {name} cannot be read: {reason}") from error
    return parse_yaml(text, name, where=where)


def parse_yaml(text: bytes, name: str, *, where: str) -> Located:
    """The YAML in UTF-8 text, which errors call `where`. Raises SettingsError, whatever the bytes."""
    if len(text) > MAX_SETTINGS_BYTES:
        raise SettingsError(f"{where} is longer than {MAX_SETTINGS_BYTES:,} bytes, which {name} should never be")
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        found = f"byte 0x{text[error.start]:02x} is not UTF-8"
        raise SettingsError(f"{where}:{line}: {found}, but {name} must be saved as UTF-8") from error
    return read_yaml(decoded, lambda line: f"{where}:{line}: ")


def read_document(
    struct: type[S], *documents: Located, base: S | None = None, field_noun: str = "a field"
) -> tuple[S, Mapping[str, Located]]:
    """The struct that documents give, later ones over earlier ones and all over the base, and what they gave by path.

    Every value is checked, also one that a later document replaces. Raises SettingsError.
    """
    values: dict[str, Any] = {} if base is None else to_builtins(base)
    given: dict[str, Located] = {}

    def add(mapping: Located, kind: type[Struct], into: dict[str, Any]) -> None:
        given.setdefault(mapping.path, mapping)
        types = _fields(kind)
        if not isinstance(mapping.value, dict | None):
            raise mapping.mismatch(expected(kind))
        for name, node in (mapping.value or {}).items():
            if name not in types:
                raise node.error(f"is not {field_noun}; {_hint(struct, name, node.path, types)}")
            if inner := _struct_in(types[name]):
                into[name] = into.get(name) or {}
                add(node, inner, into[name])
            elif _fits(node.value, types[name]):
                given[node.path], into[name] = node, node.value
            elif isinstance(node.value, str) and _fits([node.value], types[name]):
                given[node.path], into[name] = node, [node.value]
            else:
                raise node.mismatch(expected(types[name]))
        for field in structs.fields(kind):
            if field.required and (name := field.encode_name) not in into:
                raise mapping.error(f"has no {name}, but must have {name}: {expected(field.type)}")

    for document in documents:
        add(document, struct, values)
    return convert(values, struct), given


def _fits(value: Any, field_type: Any) -> bool:
    with suppress(ValidationError, UnicodeError):  # UnicodeError: a lone surrogate where a word should be
        convert(value, field_type)
        return _is_finite(value)
    return False


def _is_finite(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _hint(struct: type[Struct], unknown: str, path: str, siblings: Collection[str]) -> str:
    """The field that an unknown name may stand for: one beside it, or one whose name stands in one place only."""
    paths = [*_paths(struct)]
    names = [known.rpartition(".")[2] for known in paths]
    near = {name: known for name, known in zip(names, paths, strict=True) if names.count(name) == 1}
    near |= {name: path.removesuffix(unknown) + name for name in siblings}
    nearest = difflib.get_close_matches(unknown, near, n=1, cutoff=0.7)
    return f"did you mean {near[nearest[0]]}?" if nearest else f"it must be one of {', '.join(siblings)}"


def _paths(struct: type[Struct], path: str = "") -> dict[str, Any]:
    """The type of every field by its dotted path, structs and what is in them."""
    types = {}
    for name, field_type in _fields(struct).items():
        types[path + name] = field_type
        if inner := _struct_in(field_type):
            types |= _paths(inner, f"{path}{name}.")
    return types


def _fields(struct: type[Struct]) -> dict[str, Any]:
    return {field.encode_name: field.type for field in structs.fields(struct)}


def _struct_in(field_type: Any) -> type[Struct] | None:
    """The struct that a field holds, also where it may be null; None for a plain value."""
    types = (field_type, *get_args(field_type))
    return next((kind for kind in types if isinstance(kind, type) and issubclass(kind, Struct)), None)
