"""The trainer: one optimiser step after another, and facts about each.

`Trainer.steps()` is a generator; nothing is printed and no file is opened here. Whoever reads the facts decides what
to show and when to save: `export()` gives the whole state as plain arrays, `restore()` takes it back. Everything that
varies with time is a function of the number of the step (the dropout masks, the position in the data) and of the plan
recorded with it (the learning rate), so a run that was stopped and restored goes on as if it had not been.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from charlstm.cells import State
from charlstm.errors import DivergedError, RunError
from charlstm.evaluation import DOCUMENTS, Tally, evaluate
from charlstm.machine import Machine
from charlstm.networks import Model, Objective
from charlstm.runs import Checkpoint, Progress
from charlstm.settings import TrainingSettings
from charlstm.text import Batches, Ids
from charlstm.training.clock import Moment
from charlstm.training.gradients import compute_gradients
from charlstm.training.optimizers import build_optimizers
from charlstm.training.schedule import (
    begin_plan,
    count_pause,
    count_step,
    count_validation,
    counted_pause,
    highest_rate,
    learning_rate_at,
    plan_steps,
    seconds_left,
    stopped_by,
    total_steps_of,
)

Arrays: TypeAlias = dict[str, NDArray[Any]]

DIVERGENCE_CURE = (
    "a lower training.learning_rate or training.clip_norm, or more training.warmup_steps, usually cures it"
)


@dataclass(frozen=True)
class StepFacts:
    """What one step did. `loss` and `grad_norm` are this step's own, in nats per character and before clipping."""

    step: int
    chars: int  # trained on so far, over all epochs
    seconds: float  # of training so far, as `training.max_minutes` counts them
    loss: float
    learning_rate: float
    grad_norm: float
    step_seconds: float
    total_steps: int | None
    validation: Tally | None = None
    is_best: bool = False
    stopped_by: str | None = None  # the setting whose limit was reached, on the last step


class Trainer:
    """Trains a model on batches of text by truncated backpropagation through time."""

    def __init__(
        self,
        model: Model,
        objective: Objective,
        settings: TrainingSettings,
        *,
        batches: Batches,
        validation_ids: Ids,
        start_id: int,
        end_id: int | None = None,
        machine: Machine,
    ) -> None:
        """start_id: of the symbol that is read before the validation text (`text.start_id`).

        end_id: of the symbol that ends each document of it; None for one stream.
        """
        self.model = model.to(machine.device)
        self.objective = objective
        self.settings = settings
        self.batches = batches
        self.validation_ids = validation_ids
        self.start_id = start_id
        self.end_id = end_id
        self.machine = machine
        self.processes = machine.processes
        self.shards = machine.make_shards()
        map_tensors = self.shards.each if self._local else self.shards.map_tensors
        self.optimizers = build_optimizers(model, settings, dtype=machine.dtype, map_tensors=map_tensors)
        self.highest_rate = highest_rate(settings, model.core.hidden_size)
        self.before_validation: Callable[[], None] = lambda: None
        self.state: State | None = None  # after the last step, of the lanes that this process computes
        self.max_steps = total_steps_of(settings, batches.steps_per_epoch)
        self.progress = begin_plan(Progress(), settings, self.max_steps)
        self.counted_until: Moment | None = None  # None before the first step of this process

    def steps(self) -> Iterator[StepFacts]:
        """Take step after step, validating at the interval and at the end, until a limit is reached.

        Raises DivergedError, and of several processes ProcessLostError, or RunError if their weights differ.
        """
        while self.stopped_by() is None:
            facts = self._train_step()
            ends = self.stopped_by()
            if self._local and (ends or self.is_agreed(facts.step)):
                self._average()
            if len(self.validation_ids) > 1 and (ends or facts.step % self.settings.validate_every_steps == 0):
                facts = self._validate(facts)
                ends = self.stopped_by()
            yield replace(facts, stopped_by=ends)

    def stopped_by(self) -> str | None:
        """The setting whose limit has been reached, None while none is."""
        return stopped_by(self.settings, self.progress)

    def is_agreed(self, step: int) -> bool:
        """Whether all processes have the same weights after a step, so that it can be saved and be the last."""
        return not self._local or step % self.settings.local_steps == 0

    def seconds_left(self) -> float | None:
        """How long the run still takes at its present pace; None while its end is not known."""
        return seconds_left(self.progress, self.settings, **self._sizes)

    def export(self) -> Checkpoint:
        """A copy of the whole state as values; every process takes part."""
        training: Arrays = {}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizers.kept_of(parameter).items():
                training[f"{key}.{name}"] = _array(value)
        for name, part in zip(self.model.core.cell.state, self.state or (), strict=False):
            training[f"state.{name}"] = self.processes.join(_array(part), axis=1)
        return Checkpoint(self.export_weights(), training, self.progress)

    def export_weights(self) -> Arrays:
        """A copy of the model's weights alone."""
        return {name: _array(parameter) for name, parameter in self.model.named_parameters()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Take back what `export` gave; limits that the settings have set anew since then count.

        Raises RunError for a training state that this run cannot have had.
        """
        self._check_training(checkpoint.training, checkpoint.progress.step)
        parameters = dict(self.model.named_parameters())
        self.optimizers.clear()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(checkpoint.weights[name]))
        parts = {}
        for key, array in checkpoint.training.items():
            kind, _, name = key.partition(".")  # "exp_avg.output.weight", "state.h"
            own = array[:, self.shards.own_lanes(array.shape[1])] if kind == "state" else array
            value = torch.from_numpy(own.copy()).to(self.machine.device)
            if kind == "state":
                parts[name] = value
            else:
                self.optimizers.kept_of(parameters[name])[kind] = value
        self.state = tuple(parts[name] for name in self.model.core.cell.state) if parts else None
        progress = checkpoint.progress
        if not progress.chars:  # an earlier version's, which trained on as many in each step
            progress = msgspec.structs.replace(progress, chars=progress.step * self.batches.chars_per_step)
        self.progress = begin_plan(progress, self.settings, self.max_steps)
        self.counted_until = None

    def _check_training(self, training: Arrays, step: int) -> None:
        """Refuse arrays that would go wrong later, or silently: other names or shapes, not finite, no variances."""
        expected: dict[str, tuple[int, ...]] = {}
        if step:
            for name, parameter in self.model.named_parameters():
                shapes = self.optimizers.kept_shapes(parameter)
                expected |= {f"{kind}.{name}": shape for kind, shape in shapes.items()}
            lanes = len(self.batches.batch(step - 1).fresh)
            state = self.model.core.zero_state(lanes, like=self.model.output.bias)
            names = self.model.core.cell.state
            expected |= {f"state.{name}": tuple(part.shape) for name, part in zip(names, state, strict=False)}
        least = {"step": 1.0, "exp_avg_sq": 0.0}
        for name in expected.keys() | training.keys():
            array = training.get(name)
            if array is None or array.dtype != np.float32 or array.shape != expected.get(name):
                found = "missing" if array is None else f"{array.dtype} {list(array.shape)}"
                raise RunError(f"the checkpoint holds no training state of step {step} of this run: {name} is {found}")
            if not np.isfinite(array).all() or (array < least.get(name.partition(".")[0], -np.inf)).any():
                raise RunError(
                    f"the checkpoint's training state holds impossible numbers in {name}: use an earlier one"
                )

    def _train_step(self) -> StepFacts:
        """Forward and backward, clip, update, on the next batch."""
        begin, step, pause = Moment.now(), self.progress.step, 0.0
        if self.counted_until is not None:
            between = self.counted_until.until(begin)
            pause = counted_pause(self.progress, between.clock, worked=between.worked)
        batch = self.batches.batch(step)
        losses, gradients, state = compute_gradients(
            self.model,
            self.objective,
            batch,
            self.state,
            settings=self.settings,
            step=step,
            machine=self.machine,
            shards=self.shards,
            local=self._local,
        )
        for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        limit = self.settings.clip_norm if self.settings.clip_norm is not None else math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        loss, grad_norm, pause = self._agree(losses, grad_norm, pause)
        self._refuse_divergence(loss, grad_norm)
        if self.counted_until is not None:
            self.progress = count_pause(self.progress, pause)
        self.progress = plan_steps(self.progress, self.settings, **self._sizes)
        rate = learning_rate_at(step, self.highest_rate, self.settings, self.progress.total_steps, self.progress.plan)
        self.optimizers.step(rate)
        self.state = state
        self.counted_until = Moment.now()
        before = self.progress.seconds
        seconds = self.processes.share_number(begin.until(self.counted_until).clock)
        self.progress = count_step(self.progress, seconds, chars=int(batch.mask.sum()))
        return StepFacts(
            step=step + 1,
            chars=self.progress.chars,
            seconds=self.progress.seconds,
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            step_seconds=self.progress.seconds - before,
            total_steps=self.progress.total_steps,
        )

    def _agree(self, losses: list[float], grad_norm: float, pause: float) -> tuple[float, float, float]:
        """The loss of all shards; the norm, or the mean of the processes' own; and the pause that rank 0 has measured.

        Raises RunError if norms differ that must be the same: then so do the weights, by the processors' fault.
        """
        most = -(-self.shards.count // self.processes.size)  # of any process
        found = self.processes.gather_numbers([pause, grad_norm, *losses, *[0.0] * (most - len(losses))])
        norms = [norm for _, norm, *_ in found]
        if not self._local and math.isfinite(grad_norm) and len(set(norms)) > 1:
            raise RunError(
                f"the processes no longer have the same weights: their gradients at step {self.progress.step + 1} have "
                f"norms from {min(norms)} to {max(norms)}; go on from the last checkpoint on machines of one kind"
            )
        loss = float(sum(torch.tensor([loss for _, _, *of_process in found for loss in of_process])))
        return loss, sum(norms) / len(norms) if self._local else grad_norm, found[0][0]

    def _average(self) -> None:
        """Average the weights of the processes, and what the optimisers keep, after local steps."""
        tensors = [parameter.data for parameter in self.model.parameters()]
        for parameter in self.model.parameters():
            tensors += [value for name, value in self.optimizers.kept_of(parameter).items() if name != "step"]
        own = {self.processes.rank: tensors}
        sums = self.processes.sum(own, self.processes.size, like=tensors, dtype=torch.float32)
        for tensor, total in zip(tensors, sums, strict=True):
            tensor.copy_(total / self.processes.size)

    def _refuse_divergence(self, loss: float, grad_norm: float) -> None:
        """Stop before the optimiser step that would spoil the weights."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise DivergedError(
                f"step {self.progress.step + 1} gave a loss of {loss} and a gradient norm of {grad_norm}: the weights "
                f"are left as they were; {DIVERGENCE_CURE}"
            )

    @property
    def _local(self) -> bool:
        """Whether processes take steps by themselves."""
        return self.processes.size > 1 and self.settings.local_steps > 1

    @property
    def _sizes(self) -> dict[str, int]:
        return {"chars_per_step": self.batches.chars_per_step, "validation_chars": len(self.validation_ids)}

    def _validate(self, facts: StepFacts) -> StepFacts:
        """Evaluate on the whole validation part, and keep count of the best."""
        self.before_validation()
        begin = Moment.now()
        tally = evaluate(
            self.model,
            self.objective,
            self.validation_ids,
            start_id=self.start_id,
            end_id=self.end_id,
            protocol=DOCUMENTS if self.end_id is not None else None,
            machine=self.machine,
            shards=self.shards,
        ).tally
        if not math.isfinite(tally.loss):
            raise DivergedError(
                f"after step {facts.step} the validation loss is {tally.loss}: the last checkpoint is kept as it was; "
                f"{DIVERGENCE_CURE}"
            )
        is_best = self.progress.best_loss is None or tally.loss < self.progress.best_loss
        self.counted_until = Moment.now()
        seconds = self.processes.share_number(begin.until(self.counted_until).clock)
        self.progress = msgspec.structs.replace(
            count_validation(self.progress, seconds, **self._sizes),
            best_loss=tally.loss if is_best else self.progress.best_loss,
            best_step=facts.step if is_best else self.progress.best_step,
            validations_since_best=0 if is_best else self.progress.validations_since_best + 1,
        )
        return replace(facts, seconds=self.progress.seconds, validation=tally, is_best=is_best)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy that later steps do not change."""
    array: NDArray[Any] = tensor.detach().cpu().numpy().copy()
    return array
