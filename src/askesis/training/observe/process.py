"""Which process drives a run, and whether it still does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["describe_process", "is_alive", "this_process"]


def this_process() -> dict[str, Any]:
    """JSON-ready facts by which another process can find this one."""
    pid = os.getpid()
    return {"pid": pid, "host": socket.gethostname(), "since": time.time(), "born": _born(pid)}


def is_alive(process: Mapping[str, Any] | None) -> bool | None:
    """Does the process still run? None where that cannot be known from here: it ran on another machine."""
    if not process or process.get("host") != socket.gethostname():
        return None
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    born = _born(pid)
    return born is None or process.get("born") is None or born == process["born"]  # numbers are used again


def describe_process(process: Mapping[str, Any]) -> str:
    """For a message."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(float(process["since"])))
    return f"process {process['pid']} on {process['host']}, since {since}"


def _born(pid: int) -> str | None:
    """When the process started, in ticks since the machine did; None where the system does not say, or it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return None if fields[0] == "Z" else fields[19]
