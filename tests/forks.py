"""`charlstm` in forks of a process that has loaded everything: each command a process, without its seconds of start.

Run as a program this file is the server: a JSON object a line comes in, the child's pid and then its end go out.
"""

import importlib
import json
import mmap
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

STARTED = b"attached"  # in what strace says once it holds a process
PASSED_ON = ("CHARLSTM_CACHE",)  # of the environment at the time of the call, not of the server


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
    """Starts commands; one at a time. The server, which takes seconds to start, begins with the first."""

    @cached_property
    def _server(self) -> subprocess.Popen[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        return subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        stdin: Path | None = None,
        terminal: str | None = None,
        env: Mapping[str, str] | None = None,
        meanwhile: Callable[[int], object] = lambda _: None,
        ignored_signals: Sequence[int] = (),
        strace: Strace | None = None,
        more_memory_bytes: int | None = None,
        longest_file_bytes: int | None = None,
        disk_calls: dict[str, Any] | None = None,
        closed: Sequence[int] = (),
        first: str = "",
    ) -> End:
        """Run `charlstm`, perhaps on a terminal, under strace, or short of memory, of file size or of a good disk.

        meanwhile: called with the number of the process, once it has been started and until it is waited for.
        closed: those of the standard streams 0, 1 and 2 that are closed.
        first: Python that the process runs before the command.
        """
        out, err = cwd / ".out", cwd / ".err"
        request = {
            "arguments": list(arguments),
            "cwd": str(cwd),
            "stdin": terminal or str(stdin or os.devnull),
            "out": terminal or str(out),
            "err": terminal or str(err),
            "strace": [*strace.options, "-o", str(strace.log)] if strace else None,
            "ignored_signals": list(map(int, ignored_signals)),
            "more_memory_bytes": more_memory_bytes,
            "longest_file_bytes": longest_file_bytes,
            "disk_calls": disk_calls,
            "closed": list(closed),
            "first": first,
            "environment": {**{name: os.environ[name] for name in PASSED_ON if name in os.environ}, **(env or {})},
        }
        assert self._server.stdin is not None
        print(json.dumps(request), file=self._server.stdin, flush=True)
        try:
            meanwhile(self._answer()["pid"])  # not yet waited for, so the number is still this child's
        finally:
            print(file=self._server.stdin, flush=True)  # now it may be
            code = self._answer()["code"]
        return End(code, _taken(out), _taken(err))

    def close(self) -> None:
        """End the server."""
        if "_server" not in vars(self):
            return
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        answer: dict[str, Any] = json.loads(self._server.stdout.readline())
        return answer


def wait_until(happened: Callable[[], bool]) -> None:
    """Return as soon as something has happened, or fail after a minute."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def _taken(path: Path) -> str:
    """The text of a file, which is removed; empty if there is none."""
    text = path.read_text(errors="replace") if path.exists() else ""
    path.unlink(missing_ok=True)
    return text


def _serve() -> None:
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    import charlstm
    from charlstm.environment import prepare_torch

    prepare_torch()
    for module in pkgutil.walk_packages(charlstm.__path__, "charlstm."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    __import__("torch._dynamo")  # torch loads it, and eight hundred other modules, with the first optimiser
    requests = iter(sys.stdin.readline, "")
    for line in requests:
        request = json.loads(line)
        gate = mmap.mmap(-1, 1)  # shared with the child; looking at it is no system call
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in request["ignored_signals"]}
        pid = os.fork()
        if pid == 0:
            _child(request, gate)
        for number, handler in handlers.items():
            signal.signal(number, handler)
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
        if request["longest_file_bytes"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["longest_file_bytes"],) * 2)
        if request["more_memory_bytes"] is not None:
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            limit = used + request["more_memory_bytes"]
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for number in request["closed"]:  # as Python finds them when it starts
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)
        while not gate[0]:
            pass
        exec(request["first"], {})
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
    with suppress(OSError, ValueError, AttributeError):  # a closed one is None
        sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
