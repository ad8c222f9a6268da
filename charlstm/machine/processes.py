"""Processes that train one model together, on one machine or many, over torch.distributed.

Rank 0 writes, prints and decides what depends on a clock, a signal or a disk; its decisions are shared before anyone
acts on them, so that all ranks take the same steps. Bytes that are exchanged hold arrays and JSON, nothing pickled.
"""

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from charlstm import errors
from charlstm.environment import ProcessPlace
from charlstm.errors import CharLSTMError, ProcessLostError
from charlstm.machine.shared_memory import Barrier, offered_memory, open_memory
from charlstm.machine.sums import Layout, Node, add_neighbours, sum_by_messages, sum_in_memory

T = TypeVar("T")
ONLY_ONE = ProcessPlace(rank=0, size=1, local_rank=0, local_size=1)

LONGEST_STEP = timedelta(minutes=10)  # that others wait for a process before it counts as lost, saving included


class Processes:
    """The processes of a training run; one alone exchanges nothing.

    Every method but the properties is called by all of them, in the same order. Where one has ended, or did not answer
    for long, the others raise ProcessLostError.
    """

    def __init__(self, place: ProcessPlace = ONLY_ONE, patient: Any = None) -> None:
        """patient: the torch group in which those are waited for that read a long text."""
        self.rank, self.size, self.local_rank, self.local_size = place
        self._patient = patient
        self._memory: dict[tuple[int, int, torch.dtype], Tensor | None] = {}
        self._barrier: Barrier | None = None
        self._odd = False  # whether the numbers that were gathered last lie in the second half of their memory

    @property
    def leads(self) -> bool:
        """Whether this process writes and decides."""
        return self.rank == 0

    @property
    def leads_machine(self) -> bool:
        """Whether this process reads the text and tells of errors on its machine."""
        return self.local_rank == 0

    def spread(self, count: int) -> list[range]:
        """Which of `count` shards each process computes."""
        bounds = [count * rank // self.size for rank in range(self.size + 1)]
        return [range(*ends) for ends in pairwise(bounds)]

    def gather(self, data: bytes, *, patient: bool = False) -> list[bytes]:
        """What each process gives, in the order of ranks. patient: to wait also for whoever reads a long text."""
        if self.size == 1:
            return [data]
        group = self._patient if patient else None
        with lost_processes():
            sizes = self._gather_by_messages(torch.tensor([len(data)]), group).flatten()
            padded = torch.zeros(max(1, int(sizes.max())), dtype=torch.uint8)
            padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else padded[:0]
            found = self._gather_by_messages(padded, group)
        return [row[:size].numpy().tobytes() for row, size in zip(found, sizes.tolist(), strict=True)]

    def gather_numbers(self, numbers: Sequence[float]) -> list[list[float]]:
        """As many numbers of each process, in the order of ranks."""
        if self.size == 1:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.float64)
        memory = self._shared_memory(2 * self.size, len(own), own)
        if memory is None or self._barrier is None:
            return self._gather_by_messages(own).tolist()
        self._odd = not self._odd  # the other half may still be read
        found = memory[self.size * self._odd :][: self.size]
        found[self.rank] = own
        with lost_processes():
            self._barrier.wait()
        return found.tolist()

    def share_number(self, number: float) -> float:
        """The number of rank 0."""
        return self.gather_numbers([number])[0][0]

    def share(self, data: bytes) -> bytes:
        """The bytes of rank 0; what the others give is not looked at."""
        if self.size == 1:
            return data
        size = int(self._gather_by_messages(torch.tensor([len(data)]))[0])
        if not size:
            return b""
        shared = torch.frombuffer(bytearray(data if self.leads else size), dtype=torch.uint8)
        with lost_processes():
            dist.broadcast(shared, 0)
        return shared.numpy().tobytes()

    def join(self, array: NDArray[Any], *, axis: int) -> NDArray[Any]:
        """The arrays of all processes one after the other along an axis, the only one in which they may differ."""
        if self.size == 1:
            return array
        shape = list(array.shape)
        parts = []
        for data in self.gather(np.ascontiguousarray(array).tobytes()):
            shape[axis] = -1 if data else 0
            parts.append(np.frombuffer(data, dtype=array.dtype).reshape(shape))
        return np.concatenate(parts, axis=axis)

    def sum(
        self, own: Mapping[int, Sequence[Tensor]], count: int, *, like: Sequence[Tensor], dtype: torch.dtype
    ) -> list[Tensor]:
        """The sum of `count` lists of tensors, added along the tree.

        own: those of this process by their numbers, as `spread` has them. like: tensors of the same shapes, on the
        same device. dtype: of what is added.
        """
        leaves: dict[Node, list[Tensor]] = {(0, number): list(tensors) for number, tensors in own.items()}
        parts = add_neighbours(leaves, count, lambda a, b: [*map(operator.add, a, b)])
        if self.size == 1:
            (total,) = parts.values()
            return total
        spread = [dict.fromkeys(((0, number) for number in its), None) for its in self.spread(count)]
        layout = Layout([list(add_neighbours(its, count, _nothing)) for its in spread], count, self.rank)
        rows = [parts[node] for node in layout.nodes[self.rank]]
        numbers = sum(tensor.numel() for tensor in like)
        kind = like[0].new_empty(0, dtype=dtype)
        memory = self._shared_memory(layout.rows + 1, numbers, kind)
        with lost_processes():
            if memory is not None and self._barrier is not None:
                flat = sum_in_memory(rows, layout, memory, self._barrier.wait)
            else:
                flat = sum_by_messages(rows, layout, kind.new_empty(numbers))
        pieces = torch.split(flat, [tensor.numel() for tensor in like])
        return [piece.view_as(tensor) for piece, tensor in zip(pieces, like, strict=True)]

    def map_tensors(
        self, compute: Callable[[Sequence[Tensor]], list[Tensor]], tensors: Sequence[Tensor]
    ) -> list[Tensor]:
        """What `compute` gives for tensors that all processes have: one of the same shape and type for each.

        Where processes share memory, it is called with some of them in each; elsewhere with all of them, as messages
        would take longer.
        """
        sizes = [tensor.numel() for tensor in tensors]
        memory = self._shared_memory(1, sum(sizes), tensors[0]) if self.size > 1 else None
        if memory is None or self._barrier is None:
            return compute(tensors)
        found, own = torch.split(memory[0], sizes), self.spread(len(tensors))[self.rank]
        for number, computed in zip(own, compute([tensors[number] for number in own]), strict=True):
            found[number].copy_(computed.flatten())
        with lost_processes():
            self._barrier.wait()
            results = [part.view_as(tensor).clone() for part, tensor in zip(found, tensors, strict=True)]
            self._barrier.wait()  # the next call writes here
        return results

    def _gather_by_messages(self, own: Tensor, group: Any = None) -> Tensor:
        """The tensors (N,) of all processes, (processes, N)."""
        found = own.new_empty(self.size, len(own))
        with lost_processes():
            dist.all_gather_single(found.view(-1), own, group=group)
        return found

    def _shared_memory(self, rows: int, numbers: int, like: Tensor) -> Tensor | None:
        """Memory (rows, numbers) that all processes see, the same at every call; None where they cannot have any."""
        if self.local_size < self.size or like.device.type != "cpu":
            return None
        key = (rows, numbers, like.dtype)
        if key not in self._memory:
            if not self._memory:
                self._barrier = self._open_barrier()
            self._memory[key] = self._open_memory(rows, numbers, like.dtype) if self._barrier else None
        return self._memory[key]

    def _open_memory(self, rows: int, numbers: int, dtype: torch.dtype) -> Tensor | None:
        with offered_memory(rows * numbers * dtype.itemsize) if self.leads else nullcontext("") as offered:
            path = self.share(offered.encode()).decode()
            memory = open_memory(path, (rows, numbers), dtype)
            return memory if self._all(memory is not None) else None

    def _open_barrier(self) -> Barrier | None:
        barrier, arrivals = None, self._open_memory(1, self.size, torch.int64)
        if arrivals is None:
            return None
        processes = [int(number) for (number,) in self._gather_by_messages(torch.tensor([os.getpid()])).tolist()]
        with suppress(AttributeError, OSError):  # a system without handles of processes, or that gives none
            barrier = Barrier(arrivals[0], self.rank, processes, longest=LONGEST_STEP.total_seconds())
        return barrier if self._all(barrier is not None) else None

    def _all(self, found: bool) -> bool:
        return bool(self._gather_by_messages(torch.tensor([found])).all())

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Have an error of one process, within, be raised by all of them when it is left; nothing is exchanged within.

        Raises it as it is on the process of each machine that tells the user, ToldElsewhereError on the others.
        """
        problem: CharLSTMError | None = None
        try:
            yield
        except CharLSTMError as error:
            problem = error
        if self.size > 1:
            told = (type(problem).__name__, str(problem)) if problem else None
            found = [msgspec.json.decode(one) for one in self.gather(msgspec.json.encode(told), patient=True)]
            first = next((one for one in found if one is not None), None)
            if first is not None:
                problem = getattr(errors, first[0])(first[1])
        if problem is not None:
            raise problem if self.leads_machine else errors.ToldElsewhereError(problem) from None


ALONE = Processes()


def _nothing(_left: None, _right: None) -> None:
    return None


@contextmanager
def lost_processes() -> Iterator[None]:
    """Turn what torch.distributed raises into ProcessLostError."""
    try:
        yield
    except RuntimeError as error:
        if errors.is_out_of_memory(error):
            raise
        raise ProcessLostError(
            "another process of this training run has ended, or did not answer; what was saved is whole: if the run "
            "had begun, go on with --resume"
        ) from error
