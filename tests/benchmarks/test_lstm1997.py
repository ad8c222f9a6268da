"""The tasks of 1997: sequences are those of the paper's definitions, targets follow from them, success is counted.

Letters: `T` steps, `B` sequences.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.lstm1997.models import TaskLoss, TaskModel, spread_memory
from benchmarks.lstm1997.paper import TASKS
from benchmarks.lstm1997.recipes import RECIPES, Recipe
from benchmarks.lstm1997.rows import append_row, read_rows, table_rows
from benchmarks.lstm1997.tasks import ORDER, REBER, Criterion, end_errors, largest_errors, reber_errors
from benchmarks.lstm1997.trials import Trial, run_trial
from charlstm.text import Batch

B = 400
INNER = "B(TS*X(XT*VP)*(S|XT*VV)|PT*V(PXT*V)*(V|PS))E"  # the Reber grammar, as an expression instead of an automaton
EMBEDDED = re.compile(f"B([TP]){INNER}\\1E")


def drawn(name: str, count: int = B, *, test: bool = False) -> Batch:
    source = TASKS[name].open(3)
    return (source.test if test else source.draw)(np.random.default_rng(5), count)


def ends(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    """Each sequence's length and the target at its end, (B,) each, of a batch with no other target."""
    assert (batch.mask.sum(axis=0) == 1).all()
    last = batch.mask.argmax(axis=0)
    return last + 1, batch.following[last, np.arange(len(last))]


def strings(batch: Batch) -> list[str]:
    """The strings of a batch whose every next symbol is a target."""
    lanes = zip(batch.inputs.T, batch.following.T, batch.mask.T, strict=True)
    return ["".join(REBER[i] for i in (read[0], *wanted[counted])) for read, wanted, counted in lanes]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_draws_what_its_model_reads_and_the_same_from_the_same_numbers(name: str) -> None:
    task = TASKS[name]
    batch, again = drawn(name, 3), drawn(name, 3)
    assert all((part == same).all() for part, same in zip(batch, again, strict=True))
    assert batch.fresh.all()
    outputs, _ = TaskModel(task, cell="gru", hidden_size=5, memory=None, seed=1)(torch.from_numpy(batch.inputs))
    assert outputs.shape == (*batch.mask.shape, task.output_size)
    if batch.following.dtype == np.int64:
        assert batch.following[batch.mask].max() < task.output_size
    assert 0.8 * task.length <= batch.mask.shape[0] or name == "reber"


def test_reber_strings_are_those_of_the_grammar() -> None:
    found = strings(drawn("reber"))
    assert all(EMBEDDED.fullmatch(string) for string in found)
    assert {string[1] for string in found} == {"T", "P"}


def test_reber_tests_none_that_it_learns_from() -> None:
    source = TASKS["reber"].open(3)
    assert source.exam is not None
    exam = strings(source.exam)
    learned = set(strings(source.draw(np.random.default_rng(1), 4000)))
    assert set(exam[:256]) == learned
    assert not learned & set(exam[256:])
    assert not learned & set(strings(source.test(np.random.default_rng(2), 400)))
    assert len(exam) == TASKS["reber"].criterion.count


def test_reber_counts_a_string_as_wrong_if_an_illegal_symbol_is_as_active_as_a_legal_one() -> None:
    """Legal is what some string of the grammar has next: each next symbol is tried against the expression."""
    batch = drawn("reber", 60)
    inputs, targets, mask = (torch.from_numpy(part) for part in batch[:3])
    known = strings(drawn("reber", 4000))
    right = torch.zeros(*mask.shape, len(REBER))
    for lane, string in enumerate(strings(batch)):
        for t in range(1, len(string)):
            begun = string[:t]
            following = {other[t] for other in known if other.startswith(begun)} | {string[t]}
            right[t - 1, lane, [REBER.index(symbol) for symbol in following]] = 1.0
    short = torch.tensor([len(string) < 12 for string in strings(batch)])  # all that may follow them is known
    assert short.sum() > 20
    assert not reber_errors(right, inputs, targets, mask)[short].any()
    right[4, 7] = 1.0
    assert reber_errors(right, inputs, targets, mask)[7]
    last = mask[:, 8].sum() - 2  # before the second T or P
    right[last, 8] = right[last, 8].roll(1)
    assert reber_errors(right, inputs, targets, mask)[8]


@pytest.mark.parametrize(("name", "is_random"), [("2a p=100", False), ("2b p=100", True)])
def test_long_lags_end_as_they_begin(name: str, is_random: bool) -> None:
    batch = drawn(name)
    assert batch.mask.all()
    assert (batch.inputs[1:] == batch.following[:-1]).all()
    assert (batch.inputs[0] == batch.following[-1]).all()
    assert set(batch.inputs[0]) == {99, 100}
    between = batch.inputs[1:]
    assert between.shape[0] == 99
    assert (between < 99).all()
    assert is_random or (between == np.arange(99)[:, None]).all()
    assert not is_random or len(np.unique(between, axis=1).T) == B


def test_very_long_lags_ask_for_the_second_symbol_after_the_trigger() -> None:
    p, q = 50, 50
    batch = drawn(f"2c q={q} p={p}", 3000)
    lengths, wanted = ends(batch)
    assert (batch.inputs[0] == p + 1).all()
    assert (batch.inputs[1] == p + 2 + wanted).all()
    assert lengths.min() == q + 3  # of what is read; the symbol asked for is one more
    assert lengths.mean() + 1 == pytest.approx(q + 4 + 9, abs=0.5)  # E[k] = Σ k (9/10)ᵏ / 10 = 9
    for lane, length in enumerate(lengths):
        read = batch.inputs[:length, lane]
        assert read[-1] == p
        assert (read[2:-1] < p).all()


@pytest.mark.parametrize("name", ["3a T=100 N=3", "3b T=100 N=1", "3c T=100 N=3"])
def test_two_sequences_differ_in_their_first_numbers(name: str) -> None:
    n = int(name[-1])
    for test in (False, True):
        batch = drawn(name, 4000, test=test)
        lengths, wanted = ends(batch)
        assert (lengths.min(), lengths.max()) == (100, 110)
        signal, rest = batch.inputs[:n, :, 0], batch.inputs[n:100, :, 0]
        assert rest.mean() == pytest.approx(0, abs=0.01)
        assert rest.var() == pytest.approx(0.2, abs=0.01)
        one = signal.mean(axis=0) > 0
        values, variance = ((0.2, 0.8), 0.1) if name.startswith("3c") else ((1.0, 0.0), 0.0)
        if name.startswith("3b"):
            assert np.abs(signal).var() > 0.1
            assert (one == (wanted == 1)).mean() > 0.97
            continue
        assert (np.abs(signal) == 1).all()
        noise = wanted - np.where(one, *values)
        assert noise.var() == pytest.approx(0 if test else variance, abs=0.01)
        assert np.abs(noise.mean()) < 0.02


@pytest.mark.parametrize("name", ["adding T=500", "multiplication, 13 wrong T=100"])
def test_marked_values_are_joined(name: str) -> None:
    least, multiply = int(name.partition("T=")[2]), name.startswith("multiplication")
    batch = drawn(name, 4000)
    lengths, wanted = ends(batch)
    assert (lengths.min(), lengths.max()) == (least, least + least // 10)
    seen, begun_marked = set(), 0
    for lane, length in enumerate(lengths):
        values, marks = batch.inputs[:length, lane].T
        assert marks[0] == marks[-1] == -1
        places = np.flatnonzero(marks == 1)
        begun_marked += len(places) == 1
        assert len(places) == 2 or values[0] == multiply
        assert (np.delete(marks, places)[1:-1] == 0).all()
        assert len(places) == 1 or places[0] < 10
        seen.update(places)
        joined = np.prod(values[places]) if multiply else 0.5 + values[places].sum() / 4
        assert wanted[lane] == pytest.approx(joined, abs=1e-6)
        assert values.min() >= (0 if multiply else -1)
    assert seen == set(range(1, least // 2 - 1))  # the first T/2 − 1 pairs, but that the first shows no mark
    assert begun_marked / len(lengths) == pytest.approx(0.1 + 0.9 / (least // 2 - 2), abs=0.02)


@pytest.mark.parametrize(("name", "places"), [("6a", [(10, 20), (50, 60)]), ("6b", [(10, 20), (33, 43), (66, 76)])])
def test_order_of_the_relevant_symbols_is_the_class(name: str, places: list[tuple[int, int]]) -> None:
    batch = drawn(name, 2000)
    lengths, wanted = ends(batch)
    assert (lengths.min(), lengths.max()) == (100, 110)
    assert set(wanted) == set(range(2 ** len(places)))
    found = []
    for lane, length in enumerate(lengths):
        string = "".join(ORDER[i] for i in batch.inputs[:length, lane])
        assert re.fullmatch("E[abcdXY]*B", string)
        at = [match.start() + 1 for match in re.finditer("[XY]", string)]
        found.append(at)
        assert int("".join("01"[string[t - 1] == "Y"] for t in at), 2) == wanted[lane]
    assert [(min(t), max(t)) for t in zip(*found, strict=True)] == places


def test_errors_are_those_of_the_worst_unit_at_the_counted_steps() -> None:
    logits = torch.log(torch.tensor([[[0.7, 0.2, 0.1]], [[0.25, 0.15, 0.6]], [[0.1, 0.1, 0.8]]]))  # (T, B, O)
    targets = torch.tensor([[0], [2], [0]])
    counted = torch.tensor([[True], [True], [False]])
    nothing = torch.zeros(0)
    assert largest_errors(logits, nothing, targets, counted) == pytest.approx(0.4)
    assert largest_errors(logits, nothing, targets, ~counted) == pytest.approx(0.9)
    assert largest_errors(logits, nothing, targets, torch.ones_like(counted)) == pytest.approx(0.9)
    assert end_errors(logits, nothing, targets, counted) == pytest.approx(0.4)
    assert end_errors(logits[[1, 0]], nothing, targets[[1, 0]], counted[:2]) == pytest.approx(0.3)
    numbers = torch.tensor([[[0.3]], [[-0.2]]])
    assert largest_errors(numbers, nothing, torch.tensor([[0.1], [0.1]]), counted[:2]) == pytest.approx(0.3)


def test_loss_is_the_sum_over_counted_targets_with_the_last_of_a_sequence_as_often_as_the_recipe_says() -> None:
    probabilities = torch.tensor([[[0.5, 0.5], [0.8, 0.2]], [[0.9, 0.1], [0.7, 0.3]]])  # (T, B, O)
    targets, counted = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[True, True], [True, False]])  # of lengths 2 and 1
    logits, nothing = probabilities.log(), torch.zeros(2, 2)
    task = replace(TASKS["6a"], errors=end_errors)
    loss = TaskLoss(task, end_weight=3.0)
    assert loss.loss(logits, nothing, targets, counted) == pytest.approx(-np.log([0.5, 0.1**3, 0.2**3]).sum())
    assert loss.errors.tolist() == pytest.approx([0.9, 0.8])
    assert TaskLoss(task).loss(logits, nothing, targets, counted) == pytest.approx(-np.log([0.5, 0.1, 0.2]).sum())
    numbers = torch.tensor([[[0.5], [0.25]], [[0.0], [9.0]]])
    squared = TaskLoss(replace(task, errors=largest_errors), end_weight=3.0)
    assert squared.loss(numbers, nothing, targets.float(), counted) == pytest.approx(0.25 + 3 * 1 + 3 * 0.5625)


def test_criterion_counts_the_last_errors() -> None:
    criterion = Criterion(4, 0.3, wrong=2, mean_below=0.2)
    assert not criterion.met(np.array([0.1, 0.1, 0.1]))
    assert criterion.met(np.array([9.0, 9.0, 0.1, 0.1, 0.1, 0.3]))  # one is not below 0.3, and that is fewer than two
    assert not criterion.met(np.array([0.3, 0.3, 0.0, 0.0]))
    assert not criterion.met(np.array([0.29, 0.29, 0.29, 0.0]))  # the mean
    assert not criterion.met(np.array([0.0, 0.0, 0.0, np.nan]))


def test_memory_is_spread_over_the_gates_that_keep_and_taken_from_those_that_write() -> None:
    keeping = slice(7, 14)
    for cell, keeps, writing in (("lstm", True, slice(0, 7)), ("gru", True, None), ("rnn", False, None)):
        core = TaskModel(TASKS["6a"], cell=cell, hidden_size=7, memory=None, seed=1).core
        before = core.bias_ih_l0.clone()
        spread_memory(core, 1000, torch.Generator().manual_seed(1))
        changed = core.bias_ih_l0 != before
        assert changed.sum() == 7 * (keeps + (writing is not None))
        if keeps:
            steps = core.bias_ih_l0[keeping].exp()
            assert (steps >= 1).all()
            assert 100 < steps.max() <= 999
        if writing is not None:
            assert (core.bias_ih_l0[writing] == -core.bias_ih_l0[keeping]).all()


def test_outputs_that_also_read_the_inputs_learn_as_many_times_as_fast_as_they_are_multiplied() -> None:
    task, inputs = TASKS["2a p=100"], torch.arange(5)[:, None]
    sizes: dict[str, Any] = {"cell": "lstm", "hidden_size": 4, "memory": None, "seed": 1}
    plain, direct = TaskModel(task, **sizes), TaskModel(task, **sizes, direct=100.0)
    before = [model(inputs)[0].detach() for model in (plain, direct)]
    assert torch.equal(*before)
    assert direct.from_inputs is not None
    with torch.no_grad():
        direct.from_inputs.weight[7, 0] += 0.001
        gained = direct(inputs)[0] - before[1]
    wanted = torch.zeros_like(gained)
    wanted[0, 0, 7] = 0.1  # where symbol 0 is read
    assert torch.allclose(gained, wanted, atol=1e-6)


def test_errors_are_taken_before_the_sequences_are_learned_from() -> None:
    task, recipe = TASKS["6a"], Recipe(hidden_size=5, batch_size=3, learning_rate=0.1)
    trial, untouched = Trial(task, "lstm", 2, recipe), Trial(task, "lstm", 2, recipe)
    first, _ = next(trial.learn())
    batch = trial.trainer.batches.batch(0)
    inputs, targets, mask = (torch.from_numpy(part) for part in batch[:3])
    outputs, _ = untouched.model(inputs)
    assert first == pytest.approx(largest_errors(outputs, inputs, targets, mask).detach().numpy())


def test_a_trial_ends_with_success_or_with_its_time_and_tells_how_many_sequences_it_took() -> None:
    easy = replace(TASKS["3a T=100 N=3"], criterion=Criterion(20, 2.0))
    recipe = Recipe(hidden_size=3, batch_size=7)
    row = run_trial(easy, "rnn", 1, recipe, minutes=1)
    assert (row["end"], row["sequences"]) == ("solved", 7 * -(-39_850 // 100 // 7) + 7 * (398 % 7 == 0))
    hard = replace(TASKS["6a"], criterion=Criterion(20, 0.0))
    row = run_trial(hard, "rnn", 1, recipe, minutes=0)
    assert (row["end"], row["sequences"], row["wrong_of_2560"]) == ("out of time", 7, 2560)


def test_rows_are_kept_by_recipe_and_a_cut_line_spoils_no_other(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    recipe: dict[str, Any] = vars(RECIPES["6a"])
    row = {"task": "6a", "cell": "gru", "seed": 1, "recipe": recipe, "end": "solved", "sequences": 1200}
    assert read_rows(file) == []
    append_row(file, row)
    append_row(file, {**row, "recipe": {**recipe, "hidden_size": 999}})
    with file.open("a") as stream:
        stream.write('{"task": "6')
    append_row(file, {**row, "seed": 2, "sequences": 2400})
    append_row(file, {**row, "seed": 3, "end": "out of time", "sequences": 9})
    assert [kept["seed"] for kept in read_rows(file)] == [1, 2, 3]
    (line,) = (line for line in table_rows(read_rows(file)) if line[0] == "6a")
    assert line == ["6a", "31,390", "", "", "2/3: 1,800 (1,200–2,400)", ""]


def test_every_task_has_a_recipe() -> None:
    assert RECIPES.keys() == TASKS.keys()
