"""A trial: one cell learns one task from one seed, by the project's trainer, until success or the end of its time."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lstm1997.models import TaskLoss, TaskModel
from benchmarks.lstm1997.recipes import Recipe
from benchmarks.lstm1997.tasks import Source, Task
from charlstm.errors import DivergedError
from charlstm.machine import Machine
from charlstm.settings import CellName, TrainingSettings
from charlstm.text import Batch
from charlstm.training import Trainer

CHECKS = 100  # of a tested task in as many sequences as the paper needed
CURVE_GROWTH = 1.1  # in sequences, from one point of a curve to the next
FRESH = 2560  # sequences that a trial is tested on at its end, as in the paper
TEST_NUMBERS = 20_000_000  # that the test sequences which are read side by side hold together
LEARN, TEST, FINAL = range(3)  # what sequences are drawn for


@dataclass(frozen=True)
class Drawn:
    """The batches of a trial, each drawn by its number and the trial's seed; there are no epochs."""

    source: Source
    batch_size: int
    seed: int
    steps_per_epoch: int = 1
    chars_per_step: int = 1

    def batch(self, step: int) -> Batch:
        """The batch of a step counted from 0."""
        return self.source.draw(np.random.default_rng((self.seed, LEARN, step)), self.batch_size)


class Trial:
    """One task, cell and seed on their way."""

    def __init__(self, task: Task, cell: CellName, seed: int, recipe: Recipe) -> None:
        self.task, self.seed = task, seed
        self.source = task.open(seed)
        self.model = TaskModel(
            task,
            cell=cell,
            hidden_size=recipe.hidden_size,
            memory=recipe.memory,
            direct=recipe.direct,
            seed=seed,
        )
        self.objective = TaskLoss(task, recipe.end_weight)
        training = TrainingSettings(
            batch_size=recipe.batch_size,
            optimizer="adam",
            learning_rate=recipe.learning_rate,
            schedule="constant",
            warmup_steps=0,
        )
        self.trainer = Trainer(
            self.model,  # type: ignore[arg-type]  # the parts of a CharLM that a step of the trainer uses
            self.objective,  # type: ignore[arg-type]  # as of an Objective
            training,
            batches=Drawn(self.source, recipe.batch_size, seed),
            validation_ids=np.empty(0, dtype=np.uint8),
            start_id=0,
            machine=Machine(torch.device("cpu"), "fp32", shards=1, threads=1),
        )

    def learn(self) -> Iterator[tuple[NDArray[np.float32], bool]]:
        """Step after step: the errors of its sequences before they were learned from, (B,), and whether that is it."""
        criterion, unchecked = self.task.criterion, 0
        last = np.empty(0, dtype=np.float32)
        for _ in self.trainer.steps():
            errors = self.objective.errors.numpy()
            unchecked += len(errors)
            if not self.task.is_tested:
                last = np.concatenate([last, errors])[-criterion.count :]
                yield errors, criterion.met(last)
            elif unchecked < self.task.paper / CHECKS:
                yield errors, False
            else:
                unchecked = 0
                yield errors, self.passes()

    def passes(self) -> bool:
        """Whether the model as it is fulfils the criterion of a tested task; its sequences are drawn anew each time."""
        criterion, exam = self.task.criterion, self.source.exam
        if exam is not None:
            return criterion.met(self._errors(exam))
        errors = np.empty(0, dtype=np.float32)
        for more in self.test_errors(criterion.count, TEST):
            errors = np.concatenate([errors, more])
            if criterion.count_wrong(errors) >= criterion.wrong:
                return False
        return criterion.met(errors)

    def test_errors(self, count: int, purpose: int) -> Iterator[NDArray[np.float32]]:
        """The errors of so many test sequences, few at first and then ever more at a time."""
        most, begin, size = max(1, TEST_NUMBERS // (self.task.length * self.task.input_size)), 0, 1
        while begin < count:
            size = min(2 * size, most, count - begin)
            rng = np.random.default_rng((self.seed, purpose, self.trainer.progress.step, begin))
            yield self._errors(self.source.test(rng, size))
            begin += size

    @torch.no_grad()
    def _errors(self, batch: Batch) -> NDArray[np.float32]:
        inputs, targets, mask = (torch.from_numpy(part) for part in batch[:3])
        outputs, _ = self.model(inputs)
        errors: NDArray[np.float32] = self.task.errors(outputs, inputs, targets, mask).numpy()
        return errors


def run_trial(task: Task, cell: CellName, seed: int, recipe: Recipe, *, minutes: float) -> dict[str, Any]:
    """Learn until the criterion is met, or the sequences that the paper needed or the time are over; return the row.

    minutes: of this process's own processor time, on one thread, so that what else runs on the machine does not count.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    begin = time.process_time()
    trial, curve = Trial(task, cell, seed, recipe), Curve()
    end = "out of time"
    try:
        for errors, solved in trial.learn():
            curve.add(errors)
            if solved:
                end = "solved"
            elif curve.sequences >= task.paper:
                end = "unsolved"
            if end != "out of time" or time.process_time() - begin > 60 * minutes:
                break
    except DivergedError:
        end = "diverged"
    return {
        "task": task.name,
        "cell": cell,
        "seed": seed,
        "recipe": asdict(recipe),
        "end": end,
        "sequences": curve.sequences,
        "seconds": round(time.process_time() - begin, 1),
        "wrong_of_2560": sum(task.criterion.count_wrong(errors) for errors in trial.test_errors(FRESH, FINAL)),
        "curve": curve.points,
    }


class Curve:
    """The mean error over the number of sequences, at points that lie ever further apart."""

    def __init__(self) -> None:
        self.sequences = 0
        self.points: list[tuple[int, float]] = []
        self._errors: list[float] = []

    def add(self, errors: NDArray[np.float32]) -> None:
        """The errors of sequences that were read."""
        self.sequences += len(errors)
        self._errors.append(float(errors.mean()))
        if not self.points or self.sequences >= CURVE_GROWTH * self.points[-1][0]:
            self.points.append((self.sequences, round(float(np.mean(self._errors)), 5)))
            self._errors.clear()
