"""Sums over shards that have the same bits however the shards are spread over processes.

They are taken along a binary tree whose leaves are the shards in their order. A process adds what it has as far as the
tree goes, which leaves it some nodes, a row of numbers each. Of these every process adds up a slice, for all: those of
one machine in memory that they share, others by messages, which move as many bytes as a ring all-reduce where every
process has one shard, or a power of two of them.

Letters: `R` rows of all processes, `N` numbers.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
Node: TypeAlias = tuple[int, int]  # of the tree: its level, 0 for leaves, and its number there

MOST_AT_ONCE = 1 << 16  # numbers in a message: with larger ones two gloo processes wait for each other in turns


class Layout(NamedTuple):
    """Which nodes of a tree each process has."""

    nodes: Sequence[Sequence[Node]]
    leaves: int  # of the tree
    rank: int  # of this process

    @property
    def rows(self) -> int:
        """R."""
        return sum(map(len, self.nodes))

    def add(self, rows: Iterable[Tensor]) -> Tensor:
        """The sum of the rows of all processes, in their order."""
        order = [node for its in self.nodes for node in its]
        (total,) = add_neighbours(dict(zip(order, rows, strict=True)), self.leaves, operator.add).values()
        return total


def add_neighbours(parts: Mapping[Node, T], count: int, add: Callable[[T, T], T]) -> dict[Node, T]:
    """Add up what is there of a binary tree over `count` leaves, as far as both children of a node are.

    A node without a right child, at the end of a level, is its left one. All leaves give one part, the root.
    """
    left = dict(parts)
    for level in range((count - 1).bit_length()):
        for node in [node for node in left if node[0] == level and node[1] % 2 == 0]:
            beside, above = (level, node[1] + 1), (level + 1, node[1] // 2)
            if beside in left:
                left[above] = add(left.pop(node), left.pop(beside))
            elif beside[1] << level >= count:
                left[above] = left.pop(node)
    return left


def sum_in_memory(
    own: Sequence[Sequence[Tensor]], layout: Layout, shared: Tensor, wait_for_all: Callable[[], None]
) -> Tensor:
    """The sum (N,) of the rows of all processes, in memory (R + 1, N) that all of them see.

    own: the rows of this process, each in tensors of N numbers in all. wait_for_all: returns when all have called it.
    """
    size, numbers = len(layout.nodes), shared.shape[1]
    for row, tensors in zip(shared[sum(map(len, layout.nodes[: layout.rank])) :], own, strict=False):
        torch.cat([tensor.flatten() for tensor in tensors], out=row)
    wait_for_all()
    part = slice(numbers * layout.rank // size, numbers * (layout.rank + 1) // size)
    shared[-1, part] = layout.add(shared[:-1, part])
    wait_for_all()
    return shared[-1].clone()


def sum_by_messages(own: Sequence[Sequence[Tensor]], layout: Layout, like: Tensor) -> Tensor:
    """The sum (N,) of the rows of all processes; own: as above. like: (N,), of the same type. Raises RuntimeError."""
    size, numbers = len(layout.nodes), len(like)
    chunks = -(-numbers // (size * MOST_AT_ONCE))
    length = -(-numbers // (size * chunks))  # of the slice of each chunk that a process adds up
    flat = like.new_zeros(len(own), chunks * size * length)
    for row, tensors in zip(flat, own, strict=True):
        torch.cat([tensor.flatten() for tensor in tensors], out=row[:numbers])
    sent = flat.view(len(own), chunks, size, length).permute(1, 2, 0, 3).contiguous()
    received = [[flat.new_empty(len(its), length) for its in layout.nodes] for _ in range(chunks)]
    sums = flat.new_empty(chunks, size, length)
    scattering = [_exchange([*ours], theirs, layout.rank) for ours, theirs in zip(sent, received, strict=True)]
    gathering = []
    for messages, ours, theirs, output in zip(scattering, sent, received, sums, strict=True):
        for message in messages:
            message.wait()
        theirs[layout.rank] = ours[layout.rank]
        output[layout.rank] = layout.add(row for rows in theirs for row in rows)
        gathering += _exchange([output[layout.rank]] * size, [*output], layout.rank)
    for message in gathering:
        message.wait()
    return sums.view(-1)[:numbers]


def _exchange(sent: Sequence[Tensor], received: Sequence[Tensor], rank: int) -> list[dist.Work]:
    """Begin to send each other process its tensor, and to receive one of it; empty ones are not sent."""
    messages = []
    for other in range(len(sent)):
        if other != rank:
            both = ((dist.isend, sent[other]), (dist.irecv, received[other]))
            messages += [dist.P2POp(way, tensor, other) for way, tensor in both if tensor.numel()]
    return dist.batch_isend_irecv(messages) if messages else []
