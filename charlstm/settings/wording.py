"""Values and types in the words of an error sentence and of the reference page."""

import json
import math
from typing import Any

from msgspec import inspect


def plain(text: str) -> str:
    """Text that a terminal shows as it is: control characters escaped, the middle of a long one left out."""
    short = text if len(text) <= 80 else f"{text[:50]}…{text[-20:]}"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short)


def shown(value: Any) -> str:
    """A value as the user may have written it, on one line and not long."""
    match value:
        case str():
            return f'"{plain(value)}"'
        case dict():
            return "a mapping"
        case list() | tuple():
            return plain(f"[{', '.join(map(shown, value[:5]))}{', …' * (len(value) > 5)}]")
        case float() if not math.isfinite(value):
            return "not a number" if math.isnan(value) else "too large a number"
        case _:
            return json.dumps(value)


def expected(kind: Any) -> str:
    """What a type takes, in words, from its values and range, or from the `words` in the `extra` of its Meta."""
    match kind if isinstance(kind, inspect.Type) else inspect.type_info(kind):
        case inspect.Metadata(extra={"words": words}):
            return str(words)
        case inspect.Metadata(type=bare):
            return expected(bare)
        case inspect.BoolType():
            return "true or false"
        case inspect.NoneType():
            return "null"
        case inspect.StrType():
            return "text"
        case inspect.LiteralType(values=values):
            *others, last = map(shown, values)
            return f"{', '.join(others)} or {last}" if others else last
        case inspect.UnionType(types=kinds):
            return ", or ".join(map(expected, kinds))
        case inspect.StructType(fields=fields):
            return f"a mapping of {', '.join(field.encode_name for field in fields)}"
        case inspect.VarTupleType(item_type=item):
            return f"a list of one or more {expected(item)}s"
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)}, each {expected(items[0])}"
        case inspect.IntType() | inspect.FloatType() as number:
            noun = "an integer" if isinstance(number, inspect.IntType) else "a number"
            bounds = {"above": number.gt, "of at least": number.ge, "below": number.lt, "at most": number.le}
            limits = [f"{words} {bound}" for words, bound in bounds.items() if bound is not None]
            return " ".join([noun, " and ".join(limits)]).rstrip()
        case other:
            raise AssertionError(f"no words for {other}")
