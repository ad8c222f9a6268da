"""A small, safe YAML: one document of plain values, read by the core schema of YAML 1.2, each with its line.

PyYAML parses; what its tags, anchors and YAML 1.1 words would do to a settings file (`no` is False, `1:30` is 90, the
last of two equal keys wins, nine lines of anchors fill the memory) does not happen here.
"""

import math
import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import Any, NamedTuple

import msgspec
import yaml

from charlstm.errors import SettingsError
from charlstm.settings.wording import plain, shown

MAX_DEPTH = 6  # of lists and mappings in one another


class Located(NamedTuple):
    """What a user wrote: a scalar, a list of values, or a dict of located ones, its dotted path, and where it stands.

    The place is how a sentence about it begins, "my.yaml:7: " or "--set ".
    """

    path: str
    value: Any
    place: str

    def error(self, problem: str) -> SettingsError:
        """The sentence that it `problem`, as in "is given twice"."""
        return SettingsError(f"{self.place}{plain(self.path) or 'this file'} {problem}")

    def mismatch(self, right: str) -> SettingsError:
        """The sentence that it is what was found, but must be what is right."""
        return self.error(f"is {shown(self.value)}, but must be {right}")


def dump_yaml(document: Any) -> str:
    """YAML that `read_yaml` reads back to an equal value."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)


def read_yaml(text: str, at: Callable[[int], str]) -> Located:
    """One YAML document; `at(line)` is the place of what stands on a line (from 1). Raises SettingsError."""
    root = None
    try:
        loader: Any = yaml.SafeLoader(text)
        events = iter(loader.get_event, None)
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.NodeEvent):
                if root:
                    raise SettingsError(f"{at(line)}a second document begins here, but there must be only one")
                root = Located("", _value(event, events, at), at(line))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SettingsError(f"{at(line)}character U+{error.character:04X} may not stand in YAML") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else loader.line + 1
        raise SettingsError(f"{at(line)}this is not valid YAML: {error.problem}") from error
    except (ValueError, OverflowError) as error:  # what PyYAML makes of "\UFFFFFFFF" and %YAML 1.<5,000 digits>
        raise SettingsError(f"{at(loader.line + 1)}this is not valid YAML: its number is out of range") from error
    return root or Located("", None, at(1))


def _value(event: Any, events: Iterator[Any], at: Callable[[int], str], path: tuple[str, ...] = ()) -> Any:
    """The value that begins with `event`, without the tags, anchors and unbounded depth that YAML allows."""
    place = at(event.start_mark.line + 1)
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise SettingsError(f"{place}anchors and aliases (& and *) are not read, but only the value itself")
    if event.tag is not None:
        raise SettingsError(f"{place}tags ({plain(event.tag)}) are not read, but only the plain value")
    if isinstance(event, yaml.ScalarEvent):
        return event.value if event.style else _scalar(event.value)
    if len(path) == MAX_DEPTH:
        raise SettingsError(f"{place}this is nested too deep, but may be {MAX_DEPTH} lists and mappings deep")
    inside = takewhile(lambda event: not isinstance(event, yaml.CollectionEndEvent), events)
    if isinstance(event, yaml.SequenceStartEvent):
        return [_value(item, events, at, (*path, "[]")) for item in inside]
    fields: dict[str, Located] = {}
    lines: dict[str, int] = {}
    for key in inside:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarEvent) or key.anchor or key.tag or not key.value:
            raise SettingsError(f"{at(line)}a key must be a plain word, the name of a field")
        name = key.value
        field = Located(".".join((*path, name)), None, at(line))
        if name in fields:
            raise field.error(f"is given twice, here and on line {lines[name]}")
        fields[name] = field._replace(value=_value(next(events), events, at, (*path, name)))
        lines[name] = line
    return fields


_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


def _scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar by the core schema of YAML 1.2.2 (section 10.3.2); integers beyond 64 bits become infinite."""
    if _NULL.fullmatch(text):
        return None
    if match := _BOOL.fullmatch(text):
        return match[1] is not None
    if _INT.fullmatch(text):
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        number = int(text, base) if len(text) <= 1000 else 2**64
        return number if -(2**63) <= number < 2**63 else math.inf
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Dumper(yaml.SafeDumper):
    """Writes lists on one line, and quotes every text that `_scalar` would take for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML's own choice for text with unusual line ends (U+0085) is one that it does not read back
    plain = text.isprintable() and isinstance(_scalar(text), str)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


def _represent_list(dumper: yaml.SafeDumper, items: tuple[Any, ...]) -> yaml.SequenceNode:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=True)


def _represent_float(dumper: yaml.SafeDumper, number: float) -> yaml.ScalarNode:
    # by msgspec, in integers: repr() writes a subnormal number as 0 once torch has flushed them in this process
    digits, exponent, power = msgspec.json.encode(number).decode().partition("e")
    point = "" if "." in digits else ".0"  # YAML 1.1 has neither 1e-5 nor 1.0e5 for numbers
    sign = "+" if exponent and power[0] != "-" else ""
    return dumper.represent_scalar("tag:yaml.org,2002:float", digits + point + exponent + sign + power)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(float, _represent_float)
_Dumper.add_representer(tuple, _represent_list)
