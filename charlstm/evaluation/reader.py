"""A model reads parts of a text and its predictions are tallied lane by lane.

Letters: `T` steps, `B` lanes, `L` layers, `H` hidden.
"""

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass

import numpy as np
import torch

from charlstm.cells import State
from charlstm.evaluation.tally import LaneTallies, tally_lanes
from charlstm.machine import Shards
from charlstm.networks import Model, Objective, join_lanes, lanes_of, reset_lanes
from charlstm.text import Batch, Parts


@dataclass(frozen=True)
class Reader:
    """A model, what it is held against, and what it computes in and with."""

    model: Model
    objective: Objective
    dtype: torch.dtype
    shards: Shards
    sequence_length: int  # T
    end_id: int | None = None  # of the symbol that ends a document, whose predictions are tallied apart as well

    def read(self, parts: Parts, state: State | None = None) -> tuple[LaneTallies, State]:
        """The tallies of B parts, and the state (each L, B, H) after their last characters."""
        own = parts.of_lanes(self.shards.own_lanes(len(parts.first)))
        return self._read_shards(lambda lanes: own.of_lanes(lanes).batches(self.sequence_length), parts.first, state)

    def read_batch(self, batch: Batch, state: State | None) -> tuple[LaneTallies, State]:
        """The tallies of a batch's lanes, and the state after it; state: that before it, None for zeros."""
        own = batch.of_lanes(self.shards.own_lanes(len(batch.fresh)))
        return self._read_shards(lambda lanes: [own.of_lanes(lanes)], batch.fresh, state)

    def _read_shards(
        self, batches_of: Callable[[slice], Iterable[Batch]], lanes: Sized, state: State | None
    ) -> tuple[LaneTallies, State]:
        """What all processes have read. batches_of: what is read by some of the lanes of this one."""
        own_state = lanes_of(state, self.shards.own_lanes(len(lanes)))

        def read_shard(_shard: int, of_shard: slice) -> tuple[LaneTallies, State]:
            return self._read_lanes(batches_of(of_shard), lanes_of(own_state, of_shard))

        weight, join = self.model.output.weight, self.shards.processes.join
        of_no_lane = LaneTallies.of_no_lane(), self.model.core.zero_state(0, like=weight)
        tallies, states = zip(*(self.shards.map(read_shard, len(lanes)) or [of_no_lane]), strict=True)
        tally = LaneTallies(*(join(np.concatenate(sums), axis=0) for sums in zip(*tallies, strict=True)))
        joined = (join(part.cpu().numpy(), axis=1) for part in join_lanes(states))
        return tally, tuple(torch.from_numpy(part).to(weight.device) for part in joined)

    @torch.no_grad()
    def _read_lanes(self, batches: Iterable[Batch], state: State | None) -> tuple[LaneTallies, State]:
        """The tallies of the lanes of one shard over batches that go on with each other, and the state after them."""
        device, tallies = self.model.output.weight.device, []
        for batch in batches:
            inputs, following, mask = (torch.from_numpy(part).to(device) for part in batch[:3])  # (T, B)
            logits, state = self.model(inputs, reset_lanes(state, batch.fresh), dtype=self.dtype)
            targets = self.objective.counted_targets(inputs, following, mask)
            tallies.append(tally_lanes(logits, targets, self.end_id))
        assert state is not None
        return LaneTallies(*(np.sum(sums, axis=0) for sums in zip(*tallies, strict=True))), state
