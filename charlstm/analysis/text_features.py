"""Features of a text: a number for each character, known without any model.

Letters: `T` characters.

A feature describes the text up to and including the character: whether it is inside quotes, its column, … The features
know code and prose, not grammar: an apostrophe that begins a word is taken for a quote until the line ends.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

TextFeatures: TypeAlias = dict[str, NDArray[np.float32]]

_CLOSING = {'"': '"', "'": "'", "`": "`", "“": "”", "«": "»", "„": "“"}
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def text_features(text: str) -> TextFeatures:
    """Return every feature of a text by its name, (T,) each."""
    quoted, long_quoted, comment = _quotes_and_comments(text)
    column, indentation, indenting = _lines(text)
    word, capital = _words(text)
    return {
        name: np.array(values, dtype=np.float32)
        for name, values in {
            "inside quotes": quoted,
            "inside triple quotes": long_quoted,
            "inside brackets": _brackets(text),
            "in a comment": comment,
            "indentation": indentation,
            "in leading white space": indenting,
            "place in the line": column,
            "place in the word": word,
            "after a capital in the word": capital,
            "between words": [character.isspace() for character in text],
            "in a number": [character.isdigit() for character in text],
        }.items()
    }


def _quotes_and_comments(text: str) -> tuple[list[bool], list[bool], list[bool]]:
    """Inside any quotes, inside triple quotes, in a comment that # or // begins.

    A single quote opens no quotation inside a word (don't) and ends with its line, a double one with its paragraph.
    """
    quoted, long_quoted, comments = [], [], []
    closing, opened, escaped, comment = "", 0, False, False
    for t, character in enumerate(text):
        last_two, last_three = text[max(t - 1, 0) : t + 1], text[max(t - 2, 0) : t + 1]
        if comment:
            comment = character != "\n"
        elif escaped:
            escaped = False
        elif closing:
            escaped = character == "\\"
            at_end = last_three == closing and t - opened > 2 if len(closing) == 3 else character == closing
            given_up = (closing in "'`" and character == "\n") or (len(closing) == 1 and last_two == "\n\n")
            closing = "" if at_end or given_up else closing
        elif character in "\"'" and last_three == character * 3:
            closing, opened = last_three, t
        elif character in _CLOSING and (character != "'" or _opens_quotation(text, t)):
            closing = _CLOSING[character]
        else:
            begins_word = t == 0 or text[t - 1].isspace()
            comment = (character == "#" and begins_word) or (last_two == "//" and text[t - 2 : t - 1] != ":")
        quoted.append(bool(closing))
        long_quoted.append(len(closing) == 3)
        comments.append(comment)
    return quoted, long_quoted, comments


def _opens_quotation(text: str, t: int) -> bool:
    """Whether the single quote at t follows no word, or only a string's prefix as in r'…'."""
    before, earlier = text[max(t - 1, 0) : t], text[max(t - 2, 0) : max(t - 1, 0)]
    return not before.isalnum() or (before in "rRbBfFuU" and not (earlier.isalnum() or earlier == "_"))


def _brackets(text: str) -> list[bool]:
    """Inside round, square or curly brackets; an empty line ends those that were never closed."""
    inside, depth = [], 0
    for t, character in enumerate(text):
        depth = max(depth + _BRACKETS.get(character, 0), 0)
        if character == "\n" and text[t - 1 : t] == "\n":
            depth = 0
        inside.append(depth > 0)
    return inside


def _lines(text: str) -> tuple[list[int], list[int], list[bool]]:
    """The column, the line's indentation as far as it has been read, and whether only white space was read so far."""
    columns, indentations, leading = [], [], []
    column, indentation, indenting = 0, 0, True
    for character in text:
        if character == "\n":
            column, indentation, indenting = 0, 0, True
        else:
            column += 1
            indenting = indenting and character in " \t"
            indentation += indenting * (8 if character == "\t" else 1)
        columns.append(column)
        indentations.append(indentation)
        leading.append(indenting and column > 0)
    return columns, indentations, leading


def _words(text: str) -> tuple[list[int], list[bool]]:
    """The letters of the word so far (0 outside one), and whether a capital was among them."""
    lengths, capitals = [], []
    length, capital = 0, False
    for character in text:
        length = length + 1 if character.isalpha() else 0
        capital = length > 0 and (capital or character.isupper())
        lengths.append(length)
        capitals.append(capital)
    return lengths, capitals
