"""A model reads parts of a text and its predictions are tallied lane by lane.

Letters: `T` steps, `B` lanes, `L` layers, `H` hidden.
"""

from dataclasses import dataclass

import numpy as np
import torch

from charlstm.cells import State
from charlstm.evaluation.tally import LaneTallies, tally_lanes
from charlstm.machine import Shards
from charlstm.networks import Model, Objective, join_lanes, lanes_of, reset_lanes
from charlstm.text import Parts


@dataclass(frozen=True)
class Reader:
    """A model, what it is held against, and what it computes in and with."""

    model: Model
    objective: Objective
    dtype: torch.dtype
    shards: Shards
    sequence_length: int  # T

    def read(self, parts: Parts, state: State | None = None) -> tuple[LaneTallies, State]:
        """The tallies of B parts, and the state (each L, B, H) after their last characters."""
        own = self.shards.own_lanes(len(parts.first))
        own_parts, own_state = parts.of_lanes(own), lanes_of(state, own)

        def read_shard(_shard: int, lanes: slice) -> tuple[LaneTallies, State]:
            return self._read_lanes(own_parts.of_lanes(lanes), lanes_of(own_state, lanes))

        weight, join = self.model.output.weight, self.shards.processes.join
        of_no_lane = LaneTallies.of_no_lane(), self.model.core.zero_state(0, like=weight)
        tallies, states = zip(*(self.shards.map(read_shard, len(parts.first)) or [of_no_lane]), strict=True)
        tally = LaneTallies(*(join(np.concatenate(sums), axis=0) for sums in zip(*tallies, strict=True)))
        joined = (join(part.cpu().numpy(), axis=1) for part in join_lanes(states))
        return tally, tuple(torch.from_numpy(part).to(weight.device) for part in joined)

    @torch.no_grad()
    def _read_lanes(self, parts: Parts, state: State | None) -> tuple[LaneTallies, State]:
        """The same for the parts of one shard."""
        device, tallies = self.model.output.weight.device, []
        for batch in parts.batches(self.sequence_length):
            inputs, following, mask = (torch.from_numpy(part).to(device) for part in batch[:3])  # (T, B)
            logits, state = self.model(inputs, reset_lanes(state, batch.fresh), dtype=self.dtype)
            targets = self.objective.counted_targets(inputs, following, mask)
            tallies.append(tally_lanes(logits, targets))
        assert state is not None
        return LaneTallies(*(np.sum(sums, axis=0) for sums in zip(*tallies, strict=True))), state
