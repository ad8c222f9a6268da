"""The trainer: one optimiser step after another, and facts about each.

Letters: `B` lanes, `T` steps, `L` layers, `H` hidden.

`Trainer.steps()` is a generator; nothing is printed and no file is opened here. Whoever reads the facts decides what
to show and when to save: `export()` gives the whole state as plain arrays, `restore()` takes it back. Everything that
varies with time is a function of the number of the step (the learning rate, the dropout masks, the position in the
data), so a run that was stopped and restored goes on as if it had not been.
"""

import functools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from charlstm.errors import DivergedError, RunError
from charlstm.evaluation.evaluate import Tally, evaluate
from charlstm.machine.runtime import Runtime
from charlstm.networks.cores import State, join_lanes, lanes_of
from charlstm.networks.models import CharLM, ClozeLM
from charlstm.settings import TrainingSettings
from charlstm.text.lanes import Lanes
from charlstm.training.schedule import (
    Progress,
    estimate_total_steps,
    learning_rate_at,
    minutes_alone,
    read_progress,
    stopped_by,
    total_steps_of,
)

Arrays: TypeAlias = dict[str, NDArray[Any]]

DIVERGENCE_CURE = (
    "a lower training.learning_rate, a lower training.clip_norm or more training.warmup_steps usually cures it"
)


@dataclass(frozen=True)
class StepFacts:
    """What one step did. `loss` and `grad_norm` are this step's own, in nats per character and before clipping."""

    step: int
    chars: int  # trained on so far, over all epochs
    seconds: float
    loss: float
    learning_rate: float
    grad_norm: float
    step_seconds: float
    total_steps: int | None
    validation: Tally | None = None
    is_best: bool = False
    stopped_by: str | None = None  # the setting whose limit was reached, on the last step


class Trainer:
    """Trains a model on one text by truncated backpropagation through time."""

    def __init__(
        self,
        model: CharLM | ClozeLM,
        settings: TrainingSettings,
        *,
        dropout: float,
        train_ids: NDArray[np.integer],
        validation_ids: NDArray[np.integer],
        runtime: Runtime,
    ) -> None:
        self.model = model.to(runtime.device)
        self.settings = settings
        self.dropout = dropout
        self.lanes = Lanes(train_ids, settings.batch_size, settings.sequence_length)
        self.validation_ids = validation_ids
        self.runtime = runtime
        self.workers = runtime.workers(settings.batch_size)
        self.optimizer = build_optimizer(model, settings)
        self.generator = torch.Generator(runtime.device)
        self.hidden: State | None = None
        self.progress = Progress(total_steps=total_steps_of(self.settings, self.lanes.steps_per_epoch))

    def steps(self) -> Iterator[StepFacts]:
        """Take step after step, validating at the interval and at the end, until a limit is reached."""
        while self.stopped_by() is None:
            facts = self._train_step()
            ends = self.stopped_by()
            if len(self.validation_ids) > 1 and (ends or facts.step % self.settings.validate_every_steps == 0):
                facts = self._validate(facts)
                ends = self.stopped_by()
            yield replace(facts, stopped_by=ends)

    def stopped_by(self) -> str | None:
        """The setting whose limit has been reached, None while none is."""
        return stopped_by(self.settings, self.progress)

    def export(self) -> tuple[Arrays, Arrays, dict[str, Any]]:
        """The whole state as values: the model's arrays, the training's arrays, and the scalars of `Progress`."""
        training: Arrays = {}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                training[f"{key}.{name}"] = _array(value)
        for name, part in zip(self.model.core.cell.state, self.hidden or (), strict=False):
            training[f"state.{name}"] = _array(part)
        weights = {name: _array(parameter) for name, parameter in self.model.named_parameters()}
        return weights, training, asdict(self.progress)

    def restore(self, weights: Arrays, training: Arrays, progress: Mapping[str, Any]) -> None:
        """Take back what `export` gave; limits that the settings have set anew since then count.

        Raises RunError for a training state or scalars that this training cannot have had.
        """
        restored = read_progress(progress)
        self._check_training(training, restored.step)
        parameters = dict(self.model.named_parameters())
        self.optimizer.state.clear()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(weights[name]))
        hidden = {}
        for key, array in training.items():
            kind, _, name = key.partition(".")  # "exp_avg.core.weight_hh_l0", "state.h"
            value = torch.from_numpy(array.copy()).to(self.runtime.device)
            if kind == "state":
                hidden[name] = value
            else:
                self.optimizer.state[parameters[name]][kind] = value
        self.hidden = tuple(hidden[name] for name in self.model.core.cell.state) if hidden else None
        if not (minutes_alone(self.settings) and restored.total_is_estimate):
            restored = replace(
                restored, total_steps=total_steps_of(self.settings, self.lanes.steps_per_epoch), total_is_estimate=False
            )
        self.progress = restored

    def _check_training(self, training: Arrays, step: int) -> None:
        """Refuse arrays that would go wrong later, or silently: other names or shapes, not finite, no variances."""
        expected: dict[str, tuple[int, ...]] = {}
        if step:
            for name, parameter in self.model.named_parameters():
                shape = tuple(parameter.shape)
                expected |= {f"step.{name}": (), f"exp_avg.{name}": shape, f"exp_avg_sq.{name}": shape}
        if step and isinstance(self.model, CharLM):
            state = self.model.core.zero_state(self.settings.batch_size, like=self.model.output.bias)
            names = self.model.core.cell.state
            expected |= {f"state.{name}": tuple(part.shape) for name, part in zip(names, state, strict=True)}
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
        """Forward, loss, backward, clip, update, on the next window of every lane."""
        begin = time.perf_counter()
        step = self.progress.step
        if self.lanes.starts_epoch(step):
            self.hidden = None
        inputs, targets = (torch.from_numpy(part).to(self.runtime.device) for part in self.lanes.window(step))  # (T, B)
        masks = self.model.core.draw_masks(self.settings.batch_size, self.dropout, self._generator_of(step))
        loss, hidden = self._backward(inputs, targets, masks)
        limit = self.settings.clip_norm if self.settings.clip_norm is not None else math.inf
        grad_norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        self._refuse_divergence(loss, grad_norm)
        rate = learning_rate_at(step, self.settings, self.progress.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.hidden = hidden
        step_seconds = time.perf_counter() - begin
        self.progress = replace(self.progress, step=step + 1, seconds=self.progress.seconds + step_seconds)
        if self.progress.total_steps is None and minutes_alone(self.settings):
            self.progress = estimate_total_steps(self.settings, self.progress, len(self.validation_ids))
        return StepFacts(
            step=step + 1,
            chars=(step + 1) * self.settings.batch_size * self.settings.sequence_length,
            seconds=self.progress.seconds,
            loss=loss,
            learning_rate=rate,
            grad_norm=grad_norm,
            step_seconds=step_seconds,
            total_steps=self.progress.total_steps,
        )

    def _backward(
        self, inputs: torch.Tensor, targets: torch.Tensor, masks: Sequence[torch.Tensor]
    ) -> tuple[float, State]:
        """Set every gradient; return the loss and the state after the window. Each worker computes some lanes."""
        parameters = list(self.model.parameters())

        def part_of(lanes: slice) -> tuple[torch.Tensor, Sequence[torch.Tensor], State]:
            before, own_masks = lanes_of(self.hidden, lanes), [mask[lanes] for mask in masks]
            logits, hidden = self.model(inputs[:, lanes], before, masks=own_masks, dtype=self.runtime.dtype)
            expected = self.model.targets(inputs[:, lanes], targets[:, lanes])
            nats = F.cross_entropy(logits.flatten(0, 1), expected.flatten(), reduction="sum")
            loss = nats / targets.numel()
            return loss.detach(), torch.autograd.grad(loss, parameters), tuple(part.detach() for part in hidden)

        losses, gradients, states = zip(*self.workers.map_lanes(part_of, self.settings.batch_size), strict=True)
        for parameter, of_workers in zip(parameters, zip(*gradients, strict=True), strict=True):
            parameter.grad = functools.reduce(torch.add, of_workers)
        return float(sum(losses)), join_lanes(states)

    def _refuse_divergence(self, loss: float, grad_norm: float) -> None:
        """Stop before the optimiser step that would spoil the weights."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise DivergedError(
                f"step {self.progress.step + 1} gave a loss of {loss} and a gradient norm of {grad_norm}: the weights "
                f"are left as they were; {DIVERGENCE_CURE}"
            )

    def _validate(self, facts: StepFacts) -> StepFacts:
        """Evaluate on the whole validation part, and keep count of the best."""
        begin = time.perf_counter()
        tally = evaluate(
            self.model,
            self.validation_ids,
            batch_size=self.settings.batch_size,
            sequence_length=self.settings.sequence_length,
            dtype=self.runtime.dtype,
            workers=self.workers,
            settle=False,
        )
        if not math.isfinite(tally.loss):
            raise DivergedError(
                f"after step {facts.step} the validation loss is {tally.loss}: the last checkpoint is kept as it was; "
                f"{DIVERGENCE_CURE}"
            )
        is_best = self.progress.best_loss is None or tally.loss < self.progress.best_loss
        seconds = time.perf_counter() - begin
        self.progress = replace(
            self.progress,
            seconds=self.progress.seconds + seconds,
            validation_seconds=self.progress.validation_seconds + seconds,
            best_loss=tally.loss if is_best else self.progress.best_loss,
            best_step=facts.step if is_best else self.progress.best_step,
            validations_since_best=0 if is_best else self.progress.validations_since_best + 1,
        )
        return replace(facts, seconds=self.progress.seconds, validation=tally, is_best=is_best)

    def _generator_of(self, step: int) -> torch.Generator:
        """Random numbers that depend on the seed and the step alone."""
        return self.generator.manual_seed((self.settings.seed * 1_000_003 + step) % (1 << 63))


def build_optimizer(model: torch.nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), or AdamW (Loshchilov & Hutter 2019) whose decay acts on weight matrices only."""
    if settings.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, fused=True)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """A copy that later steps do not change."""
    array: NDArray[Any] = tensor.detach().cpu().numpy().copy()
    return array
