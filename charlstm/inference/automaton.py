"""Regular expressions as finite automata over a vocabulary's ids: what may come next so that a text still matches.

Letters: `B` lanes, `V` vocabulary, `S` states, `C` classes of ids that no part of the expression tells apart.

Python's own `re` parses the expression, and says of each of its single characters and classes which symbols of the
vocabulary they match, flags and Unicode included; so what is generated is what `re.fullmatch` accepts, whatever the
version of Python. Positions and what may follow each (Glushkov 1961) give the automaton, subsets of them its states.
"""

import re
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from charlstm.errors import SettingsError
from charlstm.text import Vocab, end_id

_parser: Any = import_module("re._parser")  # private to `re`, and the ones that cannot differ from it
_compiler: Any = import_module("re._compiler")

MOST_STATES = 20_000  # also of positions: some seconds and some megabytes
MOST_LINKS = 1_000_000  # from positions to those that follow, which take some seconds to find
UNREACHABLE = np.iinfo(np.int32).max
_NOT_REGULAR = {
    "ASSERT": "a look-around",
    "ASSERT_NOT": "a look-around",
    "FAILURE": "a look-around",
    "GROUPREF": "a back reference",
    "GROUPREF_EXISTS": "a conditional group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repeat",
}


class Constraint(Protocol):
    """What a generator asks before each step: which symbols may come next, by a state, a number from 0, a lane."""

    @property
    def start(self) -> int:
        """The state before the first symbol."""

    def allowed(self, states: NDArray[np.intp], left: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which symbols (B, V) may come next where so many (B,) may still be generated, the end symbol among them."""

    def advance(self, states: NDArray[np.intp], ids: NDArray[np.integer]) -> NDArray[np.intp]:
        """The states (B,) after these ids (B,), each of them allowed."""


@dataclass(frozen=True)
class Automaton:
    """A deterministic automaton over ids, the end symbol last. Every allowed step can still be completed."""

    table: NDArray[np.int32]  # (S, C), the next state
    needs: NDArray[np.int32]  # (S, C), symbols from here to the end by this one, itself and the end symbol among them
    class_of: NDArray[np.intp]  # (V,)
    start: int = 0

    @property
    def shortest(self) -> int:
        """Characters of the shortest text that is accepted from the start."""
        return int(self.needs[self.start].min()) - 1

    def allowed(self, states: NDArray[np.intp], left: NDArray[np.integer]) -> NDArray[np.bool_]:
        """As `Constraint.allowed`."""
        left = np.minimum(left, UNREACHABLE - 1)[:, None]
        return (self.needs.take(states, axis=0) <= left).take(self.class_of, axis=1)

    def advance(self, states: NDArray[np.intp], ids: NDArray[np.integer]) -> NDArray[np.intp]:
        """As `Constraint.advance`."""
        after: NDArray[np.intp] = self.table[states, self.class_of[ids]].astype(np.intp)
        return after

    def after(self, ids: Sequence[int]) -> "Automaton | None":
        """The automaton of what may follow the ids (N,), None if nothing can."""
        state = self.start
        for one in ids:
            if self.needs[state, self.class_of[one]] == UNREACHABLE:
                return None
            state = int(self.table[state, self.class_of[one]])
        return replace(self, start=state)


def compile_expression(expression: str, vocab: Vocab, *, option: str = "--match") -> Automaton:
    """The automaton of the documents that `re.fullmatch` accepts; of bytes, for a byte vocabulary.

    Raises SettingsError, naming `option`, for what is no expression or no regular one, for one that needs too many
    states, and for one that nothing in this vocabulary matches.
    """
    source = expression if vocab.unit == "char" else expression.encode("utf-8", "surrogateescape")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a later version may read the expression in another way
            parsed = _parser.parse(source)
        builder = _Builder(option)
        whole = builder.build(parsed, parsed.state.flags, at_start=True, at_end=True)
    except (re.error, OverflowError) as error:
        raise SettingsError(f"{option} is no expression of Python's re: {error}") from None
    except RecursionError:
        raise SettingsError(f"{option} is nested too deeply: give a flatter expression") from None
    automaton = _determine(whole, builder, vocab)
    if automaton.needs[0].min() == UNREACHABLE:
        raise SettingsError(f"{option} matches nothing that can be written with the model's {vocab.size} symbols")
    return automaton


def known_end(vocab: Vocab) -> int:
    """The symbol with which documents or lines end. Raises SettingsError where the vocabulary has none."""
    if (end := end_id(vocab)) is None:
        raise SettingsError(
            "the texts of this model have no end: lines and documents need a run trained on documents "
            "(data.documents), or on a text with line ends"
        )
    return end


class _Part(NamedTuple):
    """A part of the expression: bit sets of the positions it can begin and end with, and whether it can be empty."""

    first: int
    last: int
    empty: bool


_NOTHING = _Part(0, 0, True)


class _Builder:
    """The positions of an expression: for each the number of its atom, and the positions that may follow it."""

    def __init__(self, option: str) -> None:
        self.option = option
        self.atoms: list[Any] = []  # as compiled by `re`
        self.numbers: dict[tuple[str, int], int] = {}  # of the atoms, by what they say and their flags
        self.atom_of: list[int] = []
        self.follow: list[int] = []
        self.links = 0

    def build(self, items: Any, flags: int, *, at_start: bool = False, at_end: bool = False) -> _Part:
        """Add a sequence of the parser's items. at_start, at_end: whether nothing can stand before it, or after it."""
        parts, items = [], list(items)
        anchors = [str(op) == "AT" for op, _ in items]
        for number, (op, argument) in enumerate(items):
            first, last = at_start and all(anchors[:number]), at_end and all(anchors[number + 1 :])
            parts.append(self._item(str(op), op, argument, flags, at_start=first, at_end=last))
        whole = _NOTHING
        for part in reversed(parts):
            whole = self._join(part, whole)
        return whole

    def _item(self, name: str, op: Any, argument: Any, flags: int, *, at_start: bool, at_end: bool) -> _Part:
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._atom(op, argument, flags)
        if name == "BRANCH":
            found = [self.build(branch, flags, at_start=at_start, at_end=at_end) for branch in argument[1]]
            return _either(found)
        if name == "SUBPATTERN":
            _, added, removed, inner = argument
            flags = _compiler._combine_flags(flags, added, removed)
            return self.build(inner, flags, at_start=at_start, at_end=at_end)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, inner = argument
            return self._repeat(least, most, inner, flags)
        if name == "AT":
            where = str(argument)
            if (at_start and where.startswith("AT_BEGINNING")) or (at_end and where.startswith("AT_END")):
                return _NOTHING
            what = "a word boundary" if "BOUNDARY" in where else "an anchor inside"
        else:
            what = _NOT_REGULAR.get(name, name)
        raise SettingsError(
            f"{self.option} holds {what}, which is not generated from: use characters, classes, groups, | and repeats"
        )

    def _atom(self, op: Any, argument: Any, flags: int) -> _Part:
        """Add a position: one character."""
        key = repr((op, argument)), flags
        if key not in self.numbers:
            state = _parser.State()
            state.flags = flags
            self.numbers[key] = len(self.atoms)
            self.atoms.append(_compiler.compile(_parser.SubPattern(state, [(op, argument)])))
        if len(self.follow) == MOST_STATES:
            raise self.too_large()
        self.atom_of.append(self.numbers[key])
        self.follow.append(0)
        place = 1 << (len(self.follow) - 1)
        return _Part(place, place, False)

    def _repeat(self, least: int, most: Any, items: Any, flags: int) -> _Part:
        """Add copies: x{2,4} as xx(x(x)?)?, and x{2,} as xxx*, in which few positions follow each."""
        whole = _NOTHING
        if str(most) == "MAXREPEAT":
            body = self.build(items, flags)
            self._join(body, body)
            whole = body._replace(empty=True)
        else:
            for _ in range(most - least):
                part = self.build(items, flags)
                if part == _NOTHING:
                    return part  # which is the same, however often it is repeated
                whole = self._join(part, whole)._replace(empty=True)
        for _ in range(least):
            part = self.build(items, flags)
            if part == _NOTHING:
                return part
            whole = self._join(part, whole)
        return whole

    def _join(self, left: _Part, right: _Part) -> _Part:
        for place in self.bits(left.last):
            self.follow[place] |= right.first
        first = left.first | (right.first if left.empty else 0)
        return _Part(first, right.last | (left.last if right.empty else 0), left.empty and right.empty)

    def bits(self, places: int) -> list[int]:
        """The positions of a bit set, which are counted. Raises SettingsError."""
        self.links += places.bit_count()
        if self.links > MOST_LINKS:
            raise self.too_large()
        return _bits(places)

    def too_large(self) -> SettingsError:
        """What is raised for an expression that needs too many states."""
        return SettingsError(
            f"{self.option} needs more than {MOST_STATES:,} states or {MOST_LINKS:,} steps between them: "
            "use fewer or smaller repeats and alternatives"
        )


def _either(parts: list[_Part]) -> _Part:
    first = last = 0
    for part in parts:
        first, last = first | part.first, last | part.last
    return _Part(first, last, any(part.empty for part in parts))


def _bits(places: int) -> list[int]:
    found = []
    while places:
        lowest = places & -places
        found.append(lowest.bit_length() - 1)
        places ^= lowest
    return found


def _determine(whole: _Part, builder: _Builder, vocab: Vocab) -> Automaton:
    """The automaton whose states are sets of positions that may come next, with what each step needs to be ended."""
    end = known_end(vocab)
    class_of, members = _classes(builder, vocab, end)
    finished = (0, False)  # after the end symbol
    numbers = {(whole.first, whole.empty): 0, finished: 1}
    table = [[-1] * (len(members) + 2), [-1] * (len(members) + 2)]  # class 0: never; the last: the end symbol
    before: list[list[int]] = [[], []]
    known: dict[int, tuple[int, bool]] = {}
    waiting = deque([(whole.first, whole.empty)])
    while waiting:
        places, accepting = waiting.popleft()
        number = numbers[places, accepting]
        if accepting:
            table[number][-1] = 1
            before[1].append(number)
        for kind, member in enumerate(members, start=1):
            if not (hit := places & member):
                continue
            if (target := known.get(hit)) is None:
                follow = 0
                for place in builder.bits(hit):
                    follow |= builder.follow[place]
                target = known[hit] = follow, bool(hit & whole.last)
            if target not in numbers:
                if len(numbers) == MOST_STATES:
                    raise builder.too_large()
                numbers[target] = len(numbers)
                table.append([-1] * (len(members) + 2))
                before.append([])
                waiting.append(target)
            table[number][kind] = numbers[target]
            before[numbers[target]].append(number)
    steps = np.array(table, dtype=np.int32)
    distances = np.append(_distances(before, 1), UNREACHABLE)  # −1, no step, is the last
    needs = np.where(distances == UNREACHABLE, UNREACHABLE, distances + 1).astype(np.int32)[steps]
    return Automaton(steps, needs, class_of)


def _classes(builder: _Builder, vocab: Vocab, end: int) -> tuple[NDArray[np.intp], list[int]]:
    """The class of each id (V,), 0 for those that nothing matches, and the positions that match class 1, 2, …"""
    left_out = {end, vocab.unknown_id, vocab.boundary_id}
    written = [one for one in range(vocab.size) if one not in left_out]
    text: Any = vocab.to_bytes(written) if vocab.unit == "byte" else vocab.to_bytes(written).decode()
    matched = [0] * vocab.size  # by which atoms, as bits
    for number, atom in enumerate(builder.atoms):
        for found in atom.finditer(text):
            matched[written[found.start()]] |= 1 << number
    positions = [0] * len(builder.atoms)
    for place, number in enumerate(builder.atom_of):
        positions[number] |= 1 << place
    kinds = {0: 0}
    class_of = np.array([kinds.setdefault(by, len(kinds)) for by in matched], dtype=np.intp)
    class_of[end] = len(kinds)
    return class_of, [_either([_Part(positions[one], 0, False) for one in _bits(by)]).first for by in list(kinds)[1:]]


def _distances(before: list[list[int]], last: int) -> NDArray[np.int64]:
    """Steps (S,) from each state to the last, by the states before each; UNREACHABLE from where none leads to it."""
    found = np.full(len(before), UNREACHABLE, dtype=np.int64)
    found[last] = 0
    waiting = deque([last])
    while waiting:
        state = waiting.popleft()
        for one in before[state]:
            if found[one] == UNREACHABLE:
                found[one] = found[state] + 1
                waiting.append(one)
    return found
