"""Our end of a worker process: one request at a time, each with a deadline; a worker that hangs or dies is replaced."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from typing import IO, Any, Literal

__all__ = ["Worker", "WorkerFailure", "shared_worker"]

_START_SECONDS = 120.0
"""Added to the deadline of a worker's first request, for starting Python and importing reasoning-gym."""


class WorkerFailure(Exception):
    """A request failed. ``kind`` is ``timeout``, ``crash``, or the type name of what was raised in the worker."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message


class _Process:
    """A running worker and its pipes."""

    def __init__(self) -> None:
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed by stop)
        paths = os.pathsep.join(path for path in sys.path if path)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.child = subprocess.Popen(
            [sys.executable, "-m", "askesis.environments.reasoning.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            # A fixed hash seed: some families iterate over sets of strings.
            env={**os.environ, **threads, "PYTHONHASHSEED": "0", "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
            start_new_session=True,  # Ctrl-C is for us to handle; the worker ends when its input does
        )
        self.owner = os.getpid()
        self.fresh = True

    def stop(self) -> str:
        """Kill it and return the end of what it wrote to its error stream. Does nothing in a fork of its owner."""
        if self.owner != os.getpid():
            return ""
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not sent yet has no reader any more
                    pipe.close()
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")[-1000:]
        self.log.close()
        return text


class Worker:
    """A worker process that starts with the first request. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._finalizer: weakref.finalize[[], Worker] | None = None

    def request(self, do: str, *, deadline_s: float, **arguments: Any) -> Any:
        """Send one request and wait for its result at most ``deadline_s`` seconds. Raises WorkerFailure."""
        line = json.dumps({"do": do, "cpu_seconds": deadline_s, **arguments}).encode() + b"\n"
        with self._lock:
            process = self._running()
            limit = time.monotonic() + deadline_s + (_START_SECONDS if process.fresh else 0.0)
            try:
                reply = _exchange(process.child, line, limit)
            except BaseException as error:
                # Also after an interrupt: a reply that nobody read would answer the next request.
                code, log = process.child.poll(), self._stop()
                if isinstance(error, TimeoutError):
                    raise WorkerFailure("timeout", f"no result within {deadline_s} s") from error
                if isinstance(error, (OSError, EOFError)):
                    raise WorkerFailure("crash", f"the worker process ended with status {code}: {log}") from error
                raise
            process.fresh = False
        if "error" in reply:
            raise WorkerFailure(reply["error"], reply["message"])
        return reply["ok"]

    def close(self) -> None:
        """End the process; the next request starts another one."""
        with self._lock:
            self._stop()

    def _running(self) -> _Process:
        if self._process is not None and self._process.owner != os.getpid():
            self._process = None  # we are a fork: the process and its pipes belong to our parent
            if self._finalizer is not None:
                self._finalizer.detach()
        if self._process is None:
            self._process = _Process()
            self._finalizer = weakref.finalize(self, self._process.stop)
        return self._process

    def _stop(self) -> str:
        process, self._process = self._process, None
        if process is None:
            return ""
        if self._finalizer is not None:
            self._finalizer.detach()
        return process.stop()


def _exchange(child: subprocess.Popen[bytes], line: bytes, limit: float) -> dict[str, Any]:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(line)
    child.stdin.flush()
    received = bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not ready.select(max(0.0, limit - time.monotonic())):
                raise TimeoutError
            part = os.read(child.stdout.fileno(), 1 << 16)
            if not part:
                child.wait()
                raise EOFError
            received += part
    return json.loads(received)  # type: ignore[no-any-return]


@functools.cache
def shared_worker(purpose: Literal["draw", "score"]) -> Worker:
    """The worker that all worlds of this process share. What scores answers never draws tasks."""
    return Worker()
