"""The settings on a page, for people, and as a JSON Schema, for editors."""

from typing import Any

import msgspec

from charlstm.settings.reader import AUTOMATIC
from charlstm.settings.schema import Settings
from charlstm.settings.wording import expected, shown


def settings_reference() -> str:
    """Markdown tables, one a section: each setting with its values, default and description."""
    tables = []
    for section in msgspec.structs.fields(Settings):
        rows = ["| setting | value | default | meaning |", "|---|---|---|---|"]
        for field in msgspec.structs.fields(section.type):
            description = next(meta.description for meta in field.type.__metadata__ if meta.description)
            name, default = f"{section.name}.{field.name}", shown(field.default)
            rows.append(f"| `{name}` | {expected(field.type)} | `{default}` | {description} |")
        tables.append("\n".join(rows))
    return "\n\n".join(tables) + "\n"


def settings_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a settings file, for editors that complete and check."""
    schema = msgspec.json.schema(Settings)
    schema["$defs"]["DataSettings"]["properties"]["sources"]["type"] = ["array", "string"]  # one stands for a list
    model = schema["$defs"]["Settings"]["properties"]["model"]
    model["anyOf"] = [{"$ref": model.pop("$ref")}, {"const": AUTOMATIC}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
