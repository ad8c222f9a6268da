"""What several processes cost: the model of docs/scaling.md, and the exchange of gradients measured beside it.

Sums by shard order are measured beside torch's all-reduce, in turns, between two processes: in memory that they share,
by messages through the loopback device and, as root where network namespaces and tc are there, through links that are
slowed to so many Mb/s.

python benchmarks/scaling.py [--quick] [--rounds N] [--json FILE]
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import measure

PARAMETERS = 1_063_902  # of the default model, 2 × 256
PAYLOAD = 0.94  # of what an Ethernet frame of 1,500 bytes occupies on the wire
LATENCY_SECONDS = 50e-6  # of a message between two machines of one network
RATES = (100, 1_000, 10_000)  # Mb/s
SIDES = ("processes.sum", "all_reduce", "bf16")


def exchange_seconds(numbers: int, ranks: int, megabits: float, *, number_bytes: int = 4) -> float:
    """A step's exchange: slices to their owners, sums to all, and three short messages."""
    if ranks == 1:
        return 0.0
    sent = 2 * (ranks - 1) / ranks * number_bytes * numbers
    hops = 4 * (ranks - 1) + math.ceil(
        math.log2(ranks)
    )  # slices, sums, losses and stops pass along all; time as a tree
    return 8 * sent / (PAYLOAD * megabits * 1e6) + hops * LATENCY_SECONDS


def model_tables() -> None:
    """Efficiency by the model: what a rank does of what it would do alone."""
    kinds = {  # what a rank trains alone in a second, the numbers of its model, and characters of a rank and step
        "2×256, ranks of 60,000 chars/s, as CPUs have": (60_000, PARAMETERS, 64 * 128),
        "2×512, ranks of 2,000,000 chars/s, as is assumed of a GPU": (2_000_000, 3_400_000, 512 * 128),
    }
    for title, (speed, numbers, chars) in kinds.items():
        rows = []
        for ranks in (2, 4, 8, 32, 100, 1000):
            row: list[object] = [ranks]
            for megabits in (1_000, 10_000, 100_000):
                exchange = exchange_seconds(numbers, ranks, megabits)
                alone = chars / speed
                row += [f"{alone / (alone + exchange):.0%}", f"{alone / (alone / ranks + exchange):.1f}"]
            rows.append(row)
        head = ["ranks"]
        head += [f"{gigabits} Gb/s, {kind}" for gigabits in (1, 10, 100) for kind in ("weak", "strong")]
        measure.table(head, rows)
        print(f"\n{title}, {chars:,} characters a step; weak: so many a rank, efficiency; strong: in all, speed-up")


def worker(rounds: int) -> None:
    """One process of two: the median seconds of each way of adding, in turns."""
    import torch
    import torch.distributed as dist

    from charlstm.environment import process_place
    from charlstm.machine import join_processes
    from charlstm.machine.allocator import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as training does
    with join_processes(process_place()) as processes:
        exact, halved = torch.randn(PARAMETERS), torch.randn(PARAMETERS).bfloat16()

        def add(own: torch.Tensor) -> None:
            processes.sum({processes.rank: [own]}, processes.size, like=[own], dtype=own.dtype)

        sides: dict[str, Callable[[], object]] = {
            "processes.sum": lambda: processes.sum(
                {processes.rank: [exact]}, processes.size, like=[exact], dtype=torch.float32
            ),
            "all_reduce": lambda: dist.all_reduce(exact),
            "bf16": lambda: processes.sum(
                {processes.rank: [halved]}, processes.size, like=[halved], dtype=torch.bfloat16
            ),
            "short": lambda: processes.gather_numbers([1.0, 2.0, 3.0]),
        }
        found: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(rounds + 1):
            for side, exchange in sides.items():
                dist.barrier()
                begin = time.perf_counter()
                exchange()
                seconds = max(one for (one,) in processes.gather_numbers([time.perf_counter() - begin]))
                found[side] += [seconds] if number else []
        if processes.leads:
            print(json.dumps({side: measure.median(seconds) for side, seconds in found.items()}))


def measured(
    rounds: int, prefixes: Sequence[Sequence[str]], *meeting: str, one_machine: bool = False
) -> dict[str, float]:
    """What two workers find, each started by what its namespace needs."""
    commands = [[*prefix, sys.executable, __file__, "worker", str(rounds)] for prefix in prefixes]
    return measure.run_processes(commands, *meeting, one_machine=one_machine)


@contextmanager
def slow_link(megabits: int) -> Iterator[list[list[str]]]:
    """Two network namespaces with a link between them that carries so many Mb/s each way."""
    names = [f"charlstm-{rank}" for rank in range(2)]

    def run(*command: object) -> None:
        subprocess.run([str(part) for part in command], check=True)

    with ExitStack() as stack:
        for name in names:
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "del", name)
        run("ip", "link", "add", "link0", "netns", names[0], "type", "veth", "peer", "link1", "netns", names[1])
        for rank, name in enumerate(names):
            inside = ("ip", "netns", "exec", name)
            run(*inside, "ip", "addr", "add", f"10.77.0.{rank + 1}/24", "dev", f"link{rank}")
            run(*inside, "ip", "link", "set", f"link{rank}", "up")
            run(*inside, "ip", "link", "set", "lo", "up")
            limit = ("tbf", "rate", f"{megabits}mbit", "burst", f"{max(32, megabits // 8)}kb", "latency", "400ms")
            run(*inside, "tc", "qdisc", "add", "dev", f"link{rank}", "root", *limit)
        yield [["ip", "netns", "exec", name] for name in names]


def main() -> None:
    if sys.argv[1:2] == ["worker"]:
        worker(int(sys.argv[2]))
        return
    args = measure.options(__doc__)
    rounds = args.rounds or (5 if args.quick else 25)
    measure.begin("Several processes")
    model_tables()
    found: dict[str, Any] = {"shared memory": measured(rounds, [[], []], one_machine=True)}
    found["loopback"] = measured(rounds, [[], []])
    if os.geteuid() == 0 and shutil.which("tc") and shutil.which("ip"):
        for megabits in RATES:
            with slow_link(megabits) as prefixes:
                found[f"{megabits:,} Mb/s"] = measured(rounds, prefixes, "10.77.0.1", "link{}")
    else:
        print("\nNo slow links: that takes root, network namespaces and tc.")
    loopback, rows = found["loopback"], []
    rate: float
    for rate, (link, seconds) in zip((math.inf, math.inf, *RATES), found.items(), strict=False):
        expected = max(loopback["processes.sum"], exchange_seconds(PARAMETERS, 2, rate))
        shown = [f"{1000 * seconds[side]:.1f}" for side in (*SIDES, "short")]
        compared = "" if math.isinf(rate) else f"{seconds['processes.sum'] / expected:.2f}"
        rows.append([link, *shown, f"{seconds['processes.sum'] / seconds['all_reduce']:.2f}", compared])
    head = ["link", *(f"{side}, ms" for side in (*SIDES, "short")), "sum / all_reduce", "measured / model"]
    measure.table(head, rows)
    print(f"\nTwo processes, {PARAMETERS:,} numbers, medians of {rounds} in turns; the model: what the link takes or,")
    print("where that is more, what the loopback device took.")
    measure.finish(args, found)


if __name__ == "__main__":
    main()
