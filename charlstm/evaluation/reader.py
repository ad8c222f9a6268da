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
        tallies = []
        for batch in parts.batches(self.sequence_length):
            tally, state = self.read_batch(batch, reset_lanes(state, batch.fresh))
            tallies.append(tally)
        assert state is not None
        return LaneTallies(*(np.sum(sums, axis=0) for sums in zip(*tallies, strict=True))), state

    def read_batch(self, batch: Batch, state: State | None) -> tuple[LaneTallies, State]:
        """The tallies of a batch's lanes, and the state after it; state: that before it, None for zeros."""
        device = self.model.output.weight.device
        inputs, following, mask = (torch.from_numpy(part).to(device) for part in batch[:3])  # (T, B)

        @torch.no_grad()
        def read_shard(_shard: int, lanes: slice) -> tuple[LaneTallies, State]:
            logits, after = self.model(inputs[:, lanes], lanes_of(state, lanes), dtype=self.dtype)
            targets = self.objective.counted_targets(inputs[:, lanes], following[:, lanes], mask[:, lanes])
            return tally_lanes(logits, targets, self.end_id), after

        tallies, states = zip(*self.shards.map(read_shard, inputs.shape[1]), strict=True)
        return LaneTallies(*map(np.concatenate, zip(*tallies, strict=True))), join_lanes(states)
