"""`charlstm` in forks of a process that has loaded everything: each command a process, without its seconds of start.

Run as a program this file is the server: a JSON object a line comes in, the child's pid and then its end go out.
"""

import json
import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

STARTED = b"attached"  # in what strace says once it holds a process


class End(NamedTuple):
    """How a command ended: the exit code (negative: the signal that killed it) and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Strace:
    """What strace is to do with a command: its options, and the file for its log."""

    options: tuple[str, ...]
    log: Path


class Forks:
    """Starts commands; one at a time."""

    def __init__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        stdin: Path | None = None,
        strace: Strace | None = None,
        kill_after_seconds: float | None = None,
        more_memory_bytes: int | None = None,
        disk_calls: dict[str, Any] | None = None,
    ) -> End:
        """Run `charlstm`, perhaps under strace, killed in time, short of memory or with a bad disk."""
        out, err = cwd / ".out", cwd / ".err"
        request = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "stdin": str(stdin or os.devnull),
            "out": str(out),
            "err": str(err),
            "strace": [*strace.options, "-o", str(strace.log)] if strace else None,
            "more_memory_bytes": more_memory_bytes,
            "disk_calls": disk_calls,
            "environment": {name: os.environ[name] for name in ("CHARLSTM_CACHE",) if name in os.environ},
        }
        assert self._server.stdin is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        pid = self._answer()["pid"]
        if kill_after_seconds is not None:
            time.sleep(kill_after_seconds)
            os.kill(pid, signal.SIGKILL)  # not yet waited for, so the number is still this child's
        print(file=self._server.stdin, flush=True)  # now it may be waited for
        code = self._answer()["code"]
        end = End(code, out.read_text(errors="replace"), err.read_text(errors="replace"))
        out.unlink()
        err.unlink()
        return end

    def close(self) -> None:
        """End the server."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def _serve() -> None:
    sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    for module in (
        "evaluation.evaluate",
        "analysis.gates",
        "networks.models",
        "machine.runtime",
        "inference.sampling",
        "training.trainer",
        "cli.record",
        "cli.report",
    ):
        __import__(f"charlstm.{module}")
    __import__("torch._dynamo")  # torch loads it, and eight hundred other modules, with the first optimiser
    requests = iter(sys.stdin.readline, "")
    for line in requests:
        request = json.loads(line)
        gate = mmap.mmap(-1, 1)  # shared with the child; looking at it is no system call
        pid = os.fork()
        if pid == 0:
            _child(request, gate)
        tracer = None
        if request["strace"]:
            tracer = subprocess.Popen(["strace", *request["strace"], "-p", str(pid)], stderr=subprocess.PIPE)
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            assert STARTED in said, said
        gate[0] = 1
        print(json.dumps({"pid": pid}), flush=True)
        next(requests)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if tracer is not None:
            tracer.communicate()
        print(json.dumps({"code": code}), flush=True)


def _child(request: dict[str, Any], gate: mmap.mmap) -> None:
    """Become the command."""
    from charlstm.cli import main

    code = 1
    try:
        os.chdir(request["cwd"])
        os.environ.update(request["environment"])
        for number, name, flags in (
            (0, "stdin", os.O_RDONLY),
            (1, "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            opened = os.open(request[name], flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
        sys.argv = ["charlstm", *request["arguments"]]
        if request["more_memory_bytes"] is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            limit = used + request["more_memory_bytes"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        while not gate[0]:
            pass
        if request["disk_calls"] is not None:
            from disk_calls import DiskCalls, failing

            with failing(DiskCalls(**request["disk_calls"])):
                main()
        else:
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
