"""Units that follow something a person would name: found on the first half of a text, judged on the second.

Letters: `T` characters, `L` layers, `H` hidden, `U` = L·H units, `M` marks.

A *mark* is a number for each character that says something about the text up to and including it, known without any
model: whether it stands inside quotes, how far into the line it is, … The marks know code and prose, not grammar: an
apostrophe that begins a word is taken for a quote until the line ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Marks: TypeAlias = dict[str, NDArray[np.float32]]

TRIES = 19  # that beat chance all by luck once in twenty
_CLOSING = {'"': '"', "'": "'", "`": "`", "“": "”", "«": "»", "„": "“"}
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


@dataclass(frozen=True)
class Follower:
    """The unit whose memory correlates most with a mark on the first half of the text.

    found: the correlation there, the highest of all units, so it flatters. held_out: the same unit's on the second
    half, where nothing was chosen. chance: what the same search reached at best in TRIES tries with the mark shifted
    against the text, which keeps the mark's rhythm and cuts its tie to the text.
    """

    mark: str
    layer: int
    unit: int
    found: float
    held_out: float
    chance: float

    @property
    def agreement(self) -> float:
        """The held-out correlation, negative if its sign is not that of the one found."""
        return self.held_out * float(np.sign(self.found))


def followers(memory: NDArray[np.float32], marks: Mapping[str, NDArray[np.float32]]) -> list[Follower]:
    """For each mark the unit that follows it, best held-out correlation first.

    memory: (T, L, H). A mark that does not vary in both halves is left out.
    """
    length, layers, hidden = memory.shape
    middle = length // 2
    names = [name for name, mark in marks.items() if _varies(mark[:middle]) and _varies(mark[middle:])]
    if not names:
        return []
    units = memory.reshape(length, layers * hidden)
    first, second = _standardised(units[:middle]), _standardised(units[middle:])  # (T/2, U) each
    stacked = np.stack([marks[name] for name in names], axis=1)  # (T, M)
    unit, found, held_out = _search(first, second, stacked[:middle], stacked[middle:])
    tries = []
    for number in range(1, TRIES + 1):
        shifted = [
            np.roll(half, len(half) * number // (TRIES + 1), axis=0) for half in (stacked[:middle], stacked[middle:])
        ]
        tries.append(np.abs(_search(first, second, *shifted)[2]))
    chance = np.max(tries, axis=0)
    ranked = [
        Follower(name, int(unit[m] // hidden), int(unit[m] % hidden), *map(float, (found[m], held_out[m], chance[m])))
        for m, name in enumerate(names)
    ]
    return sorted(ranked, key=lambda follower: -follower.agreement)


def text_marks(text: str) -> Marks:
    """Every mark of a text, (T,) each, by the name a person would give it."""
    quoted, long_quoted, comment = _quotes_and_comments(text)
    column, indentation, indenting = _lines(text)
    word, capital = _words(text)
    return {
        name: np.array(mark, dtype=np.float32)
        for name, mark in {
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


def _search(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    marks_of_first: NDArray[np.float32],
    marks_of_second: NDArray[np.float32],
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """For each mark (M,): the unit chosen on the first half, its correlation there, and on the second half."""
    everywhere = _standardised(marks_of_first).T @ first / len(first)  # (M, U)
    unit = np.abs(everywhere).argmax(axis=1)
    found = everywhere[np.arange(len(unit)), unit]
    held_out = (_standardised(marks_of_second) * second[:, unit]).mean(axis=0)
    return unit, found, held_out


def _standardised(columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each column with mean 0 and standard deviation 1; a constant one becomes zeros."""
    centred: NDArray[np.float32] = columns - columns.mean(axis=0)
    deviation = centred.std(axis=0)
    centred /= np.where(deviation > 1e-6, deviation, np.inf)
    return centred


def _varies(mark: NDArray[np.float32]) -> bool:
    return len(mark) > 1 and float(mark.std()) > 0.0


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
