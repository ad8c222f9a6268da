"""What `charlstm inspect` writes to stdout: coloured text over a heat map for a terminal, a table for a pipe.

Letters: `T` characters.
"""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from charlstm.analysis import CorrelatedUnit, GateActivity, Inspection, visible_symbols
from charlstm.cells import LETTERS

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MARGIN = 5  # columns for the name of a row
_SCALE_STEPS = 9  # of the legend
_PAPER, _PLUS, _MINUS = (250, 250, 250), (245, 158, 66), (90, 165, 230)  # the page's orange and blue
_MOST_BITS = 8.0  # of surprisal, for a full block


def view(inspection: Inspection, *, layer: int, unit: int, count: int, console: Console) -> bytes:
    """The first `count` characters coloured by the unit's memory, with its gates and the surprisal below each line.

    A legend with the scale of every row stands above. console: for its width and colours.
    """
    activity, symbols = inspection.activity, inspection.symbols[:count]
    of_unit = activity.of_unit(layer, unit)
    bits = activity.surprisal / _MOST_BITS
    with console.capture() as capture:
        for row in _legend(activity, layer, unit, console):
            console.print(row, soft_wrap=True)
        for line in _wrapped(symbols, console.width - _MARGIN):
            text = Text(" " * _MARGIN, end="")
            for t in line:
                text.append(symbols[t], _on(float(of_unit[activity.memory][t])))
            console.print(text, soft_wrap=True, end="\n")
            for name, fractions in of_unit.items():
                row = Text(f"{name:>{_MARGIN - 1}} ")
                for t in line:
                    fraction = float(fractions[t])
                    row.append(_block(_height(activity, name, fraction)) * cell_len(symbols[t]), _of(fraction))
                console.print(row, soft_wrap=True)
            blocks = "".join(_block(float(bits[t])) * cell_len(symbols[t]) for t in line)
            console.print(Text(f"bits {blocks}"), soft_wrap=True)
    return capture.get().encode("utf-8", "replace")


def _legend(activity: GateActivity, layer: int, unit: int, console: Console) -> Iterator[Text]:
    """What each row is, and the numbers at the ends of its scale; that of the memory in the colours of the text."""
    for name in activity.of_unit(layer, unit):
        high = float(activity.full_scale(name)[layer, unit])
        low = 0.0 if name in activity.sigmoid_gates else -high
        scale = Text()
        for step in range(_SCALE_STEPS):
            fraction = (low + (high - low) * step / (_SCALE_STEPS - 1)) / high
            scale.append(_block(_height(activity, name, fraction)), _of(fraction))
        ends = "0 shut to 1 open" if low == 0 else f"{low:.2f} to +{high:.2f}"
        about = f"{LETTERS[name].label}, {LETTERS[name].meaning}"
        yield from _legend_row(name, scale, ends, about, console)
        if name == activity.memory and console.color_system:
            colours = Text(" " * _MARGIN)
            for step in range(_SCALE_STEPS):
                colours.append(" ", _on(2 * step / (_SCALE_STEPS - 1) - 1))
            yield colours.append("  the text is coloured by it: blue below 0, orange above")
    blocks = Text(_BLOCKS)
    yield from _legend_row("bits", blocks, f"0 to {_MOST_BITS:.0f} or more", "surprisal of the character", console)
    yield Text()


def _legend_row(name: str, scale: Text, ends: str, about: str, console: Console) -> Iterator[Text]:
    lines = wrap(f"{ends}: {about}", max(console.width - _MARGIN - _SCALE_STEPS - 2, 10))
    yield Text(f"{name:>{_MARGIN - 1}} ") + scale + Text(f"  {lines[0]}")
    for line in lines[1:]:
        yield Text(f"{'':{_MARGIN + _SCALE_STEPS + 2}}{line}")


def _height(activity: GateActivity, name: str, fraction: float) -> float:
    """Of a block, from 0 to 1: what has a sign stands at half height for 0."""
    return fraction if name in activity.sigmoid_gates else (fraction + 1) / 2


def table(inspection: Inspection, *, layer: int, unit: int) -> Iterator[str]:
    """One line a character, tab-separated, with the names of the columns first."""
    activity, vocab_symbols = inspection.activity, visible_symbols(inspection.run.vocab)
    names = list(activity.values)
    yield "\t".join(["position", "char", "surprisal_bits", *names, "expected_next", "probability"])
    for t, symbol in enumerate(inspection.symbols):
        figures = [
            activity.surprisal[t],
            *(activity.values[name][t, layer, unit] for name in names),
            activity.guess_probs[t, 0],
        ]
        surprisal, *values, probability = [f"{float(figure):.5f}" for figure in figures]
        guess = vocab_symbols[activity.guess_ids[t, 0]]
        yield "\t".join([str(t), _named(symbol), surprisal, *values, _named(guess), probability])


UNITS_COLUMNS = ("feature", "layer", "unit", "r_held_out", "r_found", "r_chance")


def units_rows(correlated_units: Sequence[CorrelatedUnit]) -> list[tuple[str, ...]]:
    """A row a feature of the text, under UNITS_COLUMNS, highest agreement first."""
    rows = []
    for found in correlated_units:
        figures = [f"{r:.4f}" for r in (found.r_held_out, found.r_found, found.r_chance)]
        rows.append((found.feature, str(found.layer), str(found.unit), *figures))
    return rows


def _wrapped(symbols: Sequence[str], width: int) -> Iterator[range]:
    """The positions of each line of text: to its line end, or as far as the terminal is wide."""
    start, used = 0, 0
    for t, symbol in enumerate(symbols):
        needed = cell_len(symbol)
        if used + needed > max(width, 1) and t > start:
            yield range(start, t)
            start, used = t, 0
        used += needed
        if symbol == "↵":
            yield range(start, t + 1)
            start, used = t + 1, 0
    if start < len(symbols):
        yield range(start, len(symbols))


def _on(fraction: float) -> Style:
    weight = min(abs(fraction), 1.0)
    mixed = (round(a + (b - a) * weight) for a, b in zip(_PAPER, _end(fraction), strict=True))
    return Style(color="black", bgcolor=Color.from_rgb(*mixed).name)


def _of(fraction: float) -> Style:
    # strong enough on paper and on black: the end colours, nothing between
    return Style(color=Color.from_rgb(*_end(fraction)).name)


def _end(fraction: float) -> tuple[int, int, int]:
    return _MINUS if fraction < 0 else _PLUS


def _block(fraction: float) -> str:
    return _BLOCKS[round(min(max(fraction, 0.0), 1.0) * (len(_BLOCKS) - 1))]


def _named(symbol: str) -> str:
    return "␣" if symbol == " " else symbol
