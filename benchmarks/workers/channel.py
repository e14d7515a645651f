"""The worker's end of a benchmark: a line of JSON asks for a round, a line of JSON says what it cost.

Peers run this in environments without askesis, so only the standard library is used here.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

__all__ = ["Channel", "memory_mb", "versions"]

_STATUS = Path("/proc/self/status")


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process in MB: now, and its peak. (0, 0) where the system has no /proc."""
    if not _STATUS.exists():
        return 0.0, 0.0
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return float(fields["VmRSS"].split()[0]) / 1024, float(fields["VmHWM"].split()[0]) / 1024


def _forget_peak() -> None:
    """Start counting the peak anew; where the kernel refuses, it stays the peak since the process began."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def versions(*packages: str) -> dict[str, str]:
    """Installed versions by package name."""
    return {name: importlib.metadata.version(name) for name in packages}


class Channel:
    """Reads requests and answers them; ``job`` is what the first line asked for."""

    def __init__(self, requests: TextIO, answers: TextIO) -> None:
        self._requests, self._answers = requests, answers
        self.job: dict[str, Any] = json.loads(requests.readline())
        self._began = (0.0, 0.0)

    @classmethod
    def of_process(cls) -> Self:
        """On standard input and output. What libraries print goes to standard error: it is no answer."""
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        return cls(sys.stdin, answers)

    def ready(self, **facts: Any) -> None:
        """Everything is loaded; memory from here on is the work's own."""
        _forget_peak()
        self._send({"ready": True, "loaded_mb": memory_mb()[0], **facts})

    def next(self) -> dict[str, Any] | None:
        """The next request; None when there are no more. Starts the clock, see :meth:`start`."""
        line = self._requests.readline()
        if not line:
            return None
        self.start()
        request: dict[str, Any] = json.loads(line)
        return request

    def start(self) -> None:
        """Start the clock anew: what came before was preparation."""
        self._began = (time.perf_counter(), time.process_time())

    def finish(self, **facts: Any) -> None:
        """The round is over: its seconds of wall and of this process's CPU, and whatever else is known of it."""
        wall_s, cpu_s = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self._send({"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": memory_mb()[1], **facts})

    def fail(self, reason: str) -> None:
        """The worker cannot go on."""
        self._send({"error": reason})

    def _send(self, record: Mapping[str, Any]) -> None:
        self._answers.write(json.dumps(record) + "\n")
        self._answers.flush()
