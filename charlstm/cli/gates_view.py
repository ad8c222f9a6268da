"""What `charlstm inspect` writes to stdout: coloured text over a heat map for a terminal, a table for a pipe.

Letters: `T` characters.
"""

from collections.abc import Iterator, Sequence
from typing import IO

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from charlstm.analysis.correlated_units import Follower
from charlstm.analysis.gates import NAMES, Trace

_BLOCKS = " ▁▂▃▄▅▆▇█"
_MARGIN = 5  # columns for the name of a row
_PAPER, _PLUS, _MINUS = (250, 250, 250), (245, 158, 66), (90, 165, 230)  # the page's orange and blue
_MOST_BITS = 8.0  # of surprise, for a full block


def view(trace: Trace, symbols: Sequence[str], *, layer: int, unit: int, count: int, file: IO[str]) -> bytes:
    """The first `count` characters coloured by the unit's memory, with its gates and the surprise below each line.

    symbols: the visible form of each of the T characters. file: the terminal, for its width and colours.
    """
    console = Console(file=file, markup=False, emoji=False, highlight=False)
    rows = [trace.memory, *(name for name in trace.values if name != trace.memory)]
    shares = {name: _shares(trace, name, layer, unit) for name in rows}
    bits = np.nan_to_num(trace.surprise) / _MOST_BITS
    with console.capture() as capture:
        for line in _wrapped(symbols[:count], console.width - _MARGIN):
            text = Text(" " * _MARGIN, end="")
            for t in line:
                text.append(symbols[t], _on(float(shares[trace.memory][t])))
            console.print(text, soft_wrap=True, end="\n")
            for name in rows:
                signed = name not in trace.sigmoid_gates
                row = Text(f"{name:>{_MARGIN - 1}} ")
                for t in line:
                    share = float(shares[name][t])
                    height = (share + 1) / 2 if signed else share
                    row.append(_block(height) * cell_len(symbols[t]), _of(share))
                console.print(row, soft_wrap=True)
            blocks = "".join(_block(float(bits[t])) * cell_len(symbols[t]) for t in line)
            console.print(Text(f"bits {blocks}"), soft_wrap=True)
    return capture.get().encode("utf-8", "replace")


def table(
    trace: Trace, symbols: Sequence[str], vocab_symbols: Sequence[str], *, layer: int, unit: int
) -> Iterator[str]:
    """One line a character, tab-separated, with the names of the columns first."""
    names = list(trace.values)
    yield "\t".join(["position", "char", "surprise_bits", *names, "expected_next", "probability"])
    for t, symbol in enumerate(symbols):
        values = [f"{float(trace.values[name][t, layer, unit]):.5f}" for name in names]
        guess = vocab_symbols[trace.guess_ids[t, 0]]
        probability = f"{float(trace.guess_probs[t, 0]):.5f}"
        yield "\t".join(
            [str(t), _named(symbol), f"{float(trace.surprise[t]):.5f}", *values, _named(guess), probability]
        )


def followers_table(followers: Sequence[Follower]) -> Iterator[str]:
    """One line a mark, tab-separated, best held-out correlation first."""
    yield "\t".join(["mark", "layer", "unit", "r_held_out", "r_found", "r_chance"])
    for follower in followers:
        figures = [f"{r:.4f}" for r in (follower.held_out, follower.found, follower.chance)]
        yield "\t".join([follower.mark, str(follower.layer), str(follower.unit), *figures])


def heading(trace: Trace, followers: Sequence[Follower], *, layer: int, unit: int) -> str:
    """One line about the unit: what is shown of it, and what it follows if anything."""
    about = f"layer {layer}, unit {unit}: {NAMES.get(trace.memory, trace.memory)}"
    for follower in followers:
        if (follower.layer, follower.unit) == (layer, unit) and follower.agreement > follower.chance:
            about += (
                f", which follows “{follower.mark}” with r = {follower.held_out:+.2f} on held-out text "
                f"({follower.found:+.2f} where it was found, {follower.chance:.2f} by chance)"
            )
            break
    return about


def _shares(trace: Trace, name: str, layer: int, unit: int) -> NDArray[np.float32]:
    """A unit's values (T,) as shares of their full scale: 0 to 1 for a gate, −1 to 1 for the rest."""
    values: NDArray[np.float32] = trace.values[name][:, layer, unit]
    if name in trace.gates:
        return values
    return values / max(float(np.abs(values).max()), 1e-6)


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


def _mixed(share: float) -> Color:
    end = _MINUS if share < 0 else _PLUS
    weight = min(abs(share), 1.0)
    red, green, blue = (round(a + (b - a) * weight) for a, b in zip(_PAPER, end, strict=True))
    return Color.from_rgb(red, green, blue)


def _on(share: float) -> Style:
    return Style(color="black", bgcolor=_mixed(share).name)


def _of(share: float) -> Style:
    # strong enough on paper and on black: the end colours, nothing between
    red, green, blue = _MINUS if share < 0 else _PLUS
    return Style(color=Color.from_rgb(red, green, blue).name)


def _block(share: float) -> str:
    return _BLOCKS[round(min(max(share, 0.0), 1.0) * (len(_BLOCKS) - 1))]


def _named(symbol: str) -> str:
    return "␣" if symbol == " " else symbol
