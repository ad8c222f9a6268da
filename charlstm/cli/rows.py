"""Rows of a table as texts: the columns that `sample --columns` names, what is given of them, a row as an object."""

import csv
import re
from dataclasses import dataclass

from charlstm.errors import SettingsError

DELIMITERS = "\t;,"  # the first that stands in --columns divides them, and the rows


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns, in their order, and what divides them."""

    names: tuple[str, ...]
    delimiter: str

    @classmethod
    def from_option(cls, text: str) -> "Columns":
        """Those of --columns. Raises SettingsError for names that are empty or not different."""
        delimiter = next((one for one in DELIMITERS if one in text), ",")
        names = tuple(name.strip() for name in text.split(delimiter))
        if not all(names) or len(set(names)) < len(names):
            raise SettingsError(f"--columns is {text!r}, but must be different names, comma, ; or tab between two")
        return cls(names, delimiter)

    @property
    def expression(self) -> str:
        """The rows with as many fields, each plain or in quotation marks, as a regular expression."""
        plain = rf'[^"\r\n{re.escape(self.delimiter)}]*'
        field = rf'(?:{plain}|"(?:[^"\r\n]|"")*")'
        return field + rf"(?:{re.escape(self.delimiter)}{field}){{{len(self.names) - 1}}}"

    def prefix(self, given: list[str]) -> str:
        """What a row begins with whose first fields are given, as NAME=VALUE. Raises SettingsError for others."""
        values = dict(one.partition("=")[::2] for one in given)
        if len(values) < len(given) or not all("=" in one for one in given):
            raise SettingsError(f"--given is {' and '.join(given)}, but must be NAME=VALUE, each column once")
        if unknown := [name for name in values if name not in self.names]:
            raise SettingsError(f"--given names {unknown[0]!r}, but --columns has {', '.join(self.names)}")
        first, rest = self.names[: len(values)], self.names[len(values) :]
        if set(first) != set(values) or not rest:
            name = next((name for name in first if name not in values), self.names[-1])
            raise SettingsError(
                f"--given must name the first columns of a row and leave at least one to be generated; "
                f"{name} is {'missing' if name not in values else 'the last one'}"
            )
        return "".join(self._quoted(values[name]) + self.delimiter for name in first)

    def row(self, text: str) -> dict[str, str] | None:
        """The fields of a row by their columns, None if it has not as many."""
        try:
            fields = next(csv.reader([text], delimiter=self.delimiter, strict=True), [""])
        except csv.Error:
            return None
        return dict(zip(self.names, fields, strict=True)) if len(fields) == len(self.names) else None

    def _quoted(self, value: str) -> str:
        special = self.delimiter in value or any(one in value for one in '"\r\n')
        return '"' + value.replace('"', '""') + '"' if special else value
