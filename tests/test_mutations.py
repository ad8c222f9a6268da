"""Wrong cells, scans, cores and engines: each differs from the right one by one edit, and must break a law.

The edits are made in the source itself, so that what is held against the laws is the shipped program but for them.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations
from typing import Any, NamedTuple

import pytest
import torch

from charlstm import cells
from charlstm.inference import engine
from charlstm.networks import cores as recurrent

from .laws import LAWS, SUBJECTS, Subject, breaks, tell

torch.set_num_threads(1)


class Mutant(NamedTuple):
    """One edit of the source of a function or class, for a cell: the text `right` becomes `wrong`."""

    cell: str
    program: Callable[..., Any]
    right: str
    wrong: str


LSTM_BLOCKS = "to_i, to_f, to_g, to_o = _blocks(from_input + from_hidden, 4)"


def reordered(cell: str, line: str) -> Iterator[Mutant]:
    """Every wrong order of the names that a line assigns to."""
    names, value = line.split(" = ")
    right = names.split(", ")
    for order in permutations(right):
        if order != tuple(right):
            yield Mutant(cell, cells.CELLS[cell].step, line, f"{', '.join(order)} = {value}")


def gru_reordered() -> Iterator[Mutant]:
    """Every wrong order of the GRU's blocks, the same for the input and the hidden state."""
    before, after = "x_r, x_z, x_n = _blocks(from_input, 3)", "h_r, h_z, h_n = _blocks(from_hidden, 3)"
    for order in permutations("rzn"):
        if order != tuple("rzn"):
            names = [", ".join(f"{side}_{gate}" for gate in order) for side in "xh"]
            wrong = f"{names[0]} = _blocks(from_input, 3)\n    {names[1]} = _blocks(from_hidden, 3)"
            yield Mutant("gru", cells.gru, f"{before}\n    {after}", wrong)


ORDERS = [
    *reordered("lstm", LSTM_BLOCKS),
    *reordered("peephole", LSTM_BLOCKS),
    *reordered("peephole", "p_i, p_f, p_o = weight_ch"),
    *reordered("peephole-full", LSTM_BLOCKS),
    *reordered("peephole-full", "from_cell_i, from_cell_f, from_cell_o = _blocks(c @ weight_ch.T, 3)"),
    *gru_reordered(),
    *reordered("gru", "h_r, h_z, h_n = _blocks(from_hidden, 3)"),  # the two sides do not agree
]

EQUATIONS = [
    *(
        Mutant(cell, cells.CELLS[cell].step, right, wrong)
        for cell in ("lstm", "peephole", "peephole-full")
        for right, wrong in (
            ("g = xp.tanh(to_g)", "g = to_g"),
            ("g = xp.tanh(to_g)", "g = sigmoid(to_g, xp)"),
            ("c = f * c + i * g", "c = f * c + g"),
            ("c = f * c + i * g", "c = c + i * g"),
            ("c = f * c + i * g", "c = f * c + (1.0 - f) * g"),
            ("c = f * c + i * g", "c = i * c + f * g"),
            ("c = f * c + i * g", "c = f * (c + i * g)"),
            ("c = f * c + i * g", "c = f * c - i * g"),
            ("c = f * c + i * g", "c *= f\n    c += i * g"),
            ("h = o * xp.tanh(c)", "h = o * c"),
            ("h = o * xp.tanh(c)", "h = xp.tanh(o * c)"),
            ("h = o * xp.tanh(c)", "h = xp.tanh(c)"),
            ("h = o * xp.tanh(c)", "h = o * sigmoid(c, xp)"),
            ("h = o * xp.tanh(c)", "h = o * xp.tanh(state[1])"),
            ("return (h, c)", "return (c, h)"),
            ("return (h, c)", "return (h, state[1])"),
            ("return (h, c)", "return (h, xp.tanh(c))"),
            ("(i, f, g, o)", "(f, i, g, o)"),
            ("(i, f, g, o)", "(i, f, g, h)"),
        )
    ),
    Mutant("lstm", cells.lstm, "sigmoid(to_i, xp)", "xp.tanh(to_i)"),
    Mutant("lstm", cells.lstm, "sigmoid(to_f, xp)", "xp.tanh(to_f)"),
    Mutant("lstm", cells.lstm, "sigmoid(to_o, xp)", "xp.tanh(to_o)"),
    Mutant("lstm", cells.lstm, "sigmoid(to_f, xp)", "1.0 - sigmoid(to_f, xp)"),
    Mutant("lstm", cells.lstm, "sigmoid(to_f, xp)", "sigmoid(to_f + 1.0, xp)"),
    Mutant("lstm", cells.lstm, "from_input + from_hidden", "from_input - from_hidden"),
    Mutant("lstm", cells.lstm, "from_input + from_hidden", "from_input"),
    Mutant("peephole", cells.peephole, "p_i * c", "p_i * state[0]"),
    Mutant("peephole", cells.peephole, "to_i + p_i * c", "to_i"),
    Mutant("peephole", cells.peephole, "to_f + p_f * c", "to_f"),
    Mutant("peephole", cells.peephole, "to_o + p_o * c", "to_o"),
    Mutant("peephole", cells.peephole, "to_o + p_o * c", "to_o + p_o * state[1]"),
    Mutant("peephole", cells.peephole, "to_o + p_o * c", "to_o + p_o * xp.tanh(c)"),
    Mutant("peephole", cells.peephole, "to_i + p_i * c", "to_i * p_i * c"),
    Mutant("peephole", cells.peephole, "xp.tanh(to_g)", "xp.tanh(to_g + p_i * c)"),
    Mutant(
        "peephole",  # the forget gate after the cell has moved on
        cells.peephole,
        "c = f * c + i * g",
        "c = sigmoid(to_f + p_f * (f * c + i * g), xp) * c + i * g",
    ),
    Mutant("peephole-full", cells.peephole_full, "c @ weight_ch.T", "state[0] @ weight_ch.T"),
    Mutant("peephole-full", cells.peephole_full, "xp.tanh(to_g)", "xp.tanh(to_g + from_cell_i)"),
    Mutant("peephole-full", cells.peephole_full, "to_o + from_cell_o", "to_o"),
    Mutant(
        "peephole-full",  # Graves' output gate, which sees the new cell
        cells.peephole_full,
        "h = o * xp.tanh(c)",
        "o = sigmoid(to_o + _blocks(c @ weight_ch.T, 3)[2], xp)\n    h = o * xp.tanh(c)",
    ),
    Mutant(
        "peephole-full",  # every block the wrong way round
        cells.peephole_full,
        "_blocks(c @ weight_ch.T, 3)",
        "[c @ weight_ch[k * c.shape[1] : (k + 1) * c.shape[1]] for k in range(3)]",
    ),
    Mutant("gru", cells.gru, "x_n + r * h_n", "r * (x_n + h_n)"),
    Mutant("gru", cells.gru, "x_n + r * h_n", "x_n + h_n"),
    Mutant("gru", cells.gru, "x_n + r * h_n", "x_n + z * h_n"),
    Mutant("gru", cells.gru, "x_n + r * h_n", "x_n + (1.0 - r) * h_n"),
    Mutant("gru", cells.gru, "x_n + r * h_n", "x_n + r * h"),
    Mutant("gru", cells.gru, "xp.tanh(x_n + r * h_n)", "sigmoid(x_n + r * h_n, xp)"),
    Mutant("gru", cells.gru, "xp.tanh(x_n + r * h_n)", "(x_n + r * h_n)"),
    Mutant("gru", cells.gru, "(1.0 - z) * n + z * h", "z * n + (1.0 - z) * h"),
    Mutant("gru", cells.gru, "(1.0 - z) * n + z * h", "(1.0 - r) * n + r * h"),
    Mutant("gru", cells.gru, "(1.0 - z) * n + z * h", "(1.0 - z) * n + z * r * h"),
    Mutant("gru", cells.gru, "(1.0 - z) * n + z * h", "n + z * h"),
    Mutant("gru", cells.gru, "sigmoid(x_r + h_r, xp)", "xp.tanh(x_r + h_r)"),
    Mutant("gru", cells.gru, "return (h,), (r, z, n)", "return (n,), (r, z, n)"),
    Mutant("gru", cells.gru, "return (h,), (r, z, n)", "return (h,), (z, r, n)"),
    Mutant("rnn", cells.rnn, "xp.tanh(from_input + from_hidden)", "sigmoid(from_input + from_hidden, xp)"),
    Mutant("rnn", cells.rnn, "xp.tanh(from_input + from_hidden)", "xp.tanh(from_input) + xp.tanh(from_hidden)"),
    Mutant("rnn", cells.rnn, "xp.tanh(from_input + from_hidden)", "xp.tanh(from_input + state[0])"),
    Mutant("rnn", cells.rnn, "xp.tanh(from_input + from_hidden)", "(from_input + from_hidden)"),
    Mutant("rnn", cells.rnn, "return (h,), (h,)", "return (h,), (from_input,)"),
]

PROGRAMS = [
    *(
        Mutant("lstm", recurrent.unrolled_scan, right, wrong)
        for right, wrong in (
            ('weights["bias_hh"]', "None"),
            ('weights["bias_hh"]', 'weights["bias_ih"]'),
            ('weights["bias_ih"]', "None"),
            ("F.linear(state[0], ", "F.linear(state[1], "),
            ("F.linear(state[0], ", "F.linear(state[0].flip(0), "),
            ("F.linear(state[0], ", "F.linear(state[0] * 0.0, "),
            ("from_input[t]", "from_input[-1 - t]"),
            ("from_input[t]", "from_input[max(t - 1, 0)]"),
            ("from_input[t]", "torch.stack(from_input[t:]).mean(0)"),
            ("from_input[t]", "from_input[t].mean(0, keepdim=True)"),
            ("outputs.append(state[0])", "outputs.append(state[1])"),
            ("outputs.append(state[0])", "outputs.insert(0, state[0])"),
            ("outputs = []", "outputs, state = [], tuple(part * 0.0 for part in state)"),
            ("return torch.stack(outputs), state", "return torch.stack(outputs), state[::-1]"),
        )
    ),
    Mutant("peephole", recurrent.unrolled_scan, "F.linear(state[0], ", "F.linear(state[0].detach(), "),
    Mutant("peephole", recurrent.unrolled_scan, 'weights.get("weight_ch")', 'weights["weight_ch"].detach()'),
    Mutant("lstm", recurrent.builtin_scan, "return outputs, ", "return outputs.flip(0), "),
    Mutant("gru", recurrent.builtin_scan, '"bias_ih", "bias_hh"', '"bias_hh", "bias_ih"'),
    *(
        Mutant(cell, recurrent.Core, right, wrong)
        for cell in ("lstm", "rnn")
        for right, wrong in (
            ("part[layer].to(x.dtype)", "part[0].to(x.dtype)"),
            ("last.append(after)", "last.insert(0, after)"),
            ("torch.zeros(shape, dtype=dtype", "torch.ones(shape, dtype=dtype"),
            ("dtype = torch.promote_types(like.dtype, torch.float32)", "dtype = torch.float32"),
            ("self.scan(x,", "self.scan(x + x.mean(0),"),
        )
    ),
    *(
        Mutant("peephole", engine.Engine, right, wrong)
        for right, wrong in (
            ('+ first["bias_ih"]', ""),
            ('+ layer["bias_hh"]', ""),
            ('+ layer["bias_ih"]', ""),
            ("+ self.output_bias", ""),
            ("part[number] for part in state", "part[0] for part in state"),
            ("return after[-1][0], ", "return after[0][0], "),
            ("from_input = after[-1][0] @", "from_input = state[0][number - 1] @"),
            ("np.zeros(shape, dtype", "np.ones(shape, dtype"),
        )
    ),
]
MUTANTS = [*ORDERS, *EQUATIONS, *PROGRAMS]
LAST = "gradients are the numeric ones"  # slow: asked only of the mutants that obey all other laws


def edited(mutant: Mutant) -> Subject:
    """The mutant's cell as the edited program has it."""
    source = inspect.getsource(mutant.program)
    assert source.count(mutant.right) == 1, f"{mutant.program.__name__} should hold {mutant.right!r} once"
    namespace = dict(vars(inspect.getmodule(mutant.program)))
    exec(source.replace(mutant.right, mutant.wrong), namespace)
    program = namespace[mutant.program.__name__]
    right = SUBJECTS[mutant.cell]
    if mutant.program is recurrent.unrolled_scan:
        return replace(right, scan=program(right.cell))
    if mutant.program is recurrent.builtin_scan:
        return replace(right, scan=program(mutant.cell), by_hand=False)
    if mutant.program is recurrent.Core:
        return replace(right, core=program)
    if mutant.program is engine.Engine:
        return replace(right, engine=program)
    cell = replace(right.cell, step=program)
    return replace(right, cell=cell, scan=recurrent.unrolled_scan(cell))


def broken_laws(subject: Subject) -> list[str]:
    quick = [name for name, law in LAWS.items() if name != LAST and breaks(subject, law)]
    return quick or [LAST] * breaks(subject, LAWS[LAST])


@pytest.mark.parametrize("program", {(mutant.cell, mutant.program): mutant for mutant in MUTANTS}.values())
def test_mutations_a_program_that_no_edit_has_changed_obeys_every_law(program: Mutant) -> None:
    assert broken_laws(edited(program._replace(wrong=program.right))) == []


def test_mutations_every_wrong_program_breaks_a_law_and_every_law_is_broken(request: pytest.FixtureRequest) -> None:
    assert len(set(MUTANTS)) == len(MUTANTS)
    broken = {mutant: broken_laws(edited(mutant)) for mutant in MUTANTS}
    kills = Counter(name for names in broken.values() for name in names)
    killed = sum(map(bool, broken.values()))
    alone = Counter(names[0] for names in broken.values() if len(names) == 1)
    by_law = (f"  {name}: {kills[name]}, {alone[name]} of them alone{', asked last' * (name == LAST)}" for name in LAWS)
    tell(request, [f"mutations: killed {killed} of {len(MUTANTS)}; by law:", *by_law])
    assert [mutant for mutant, names in broken.items() if not names] == []
    assert kills.keys() == LAWS.keys()
