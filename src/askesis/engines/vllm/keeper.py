"""A small process between us and a server: what it starts dies with us. Run as a script, by path.

    keeper.py COMMAND...

It leads a process group of its own. When its standard input ends, which happens when whoever started it has gone for
whatever reason, the whole group is killed; a line ``stop`` asks the command to end first. When the command ends by
itself, so does what it left behind.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys

__all__ = ["main"]

_POLL_S = 0.2
_GRACE_S = 10.0


def main() -> None:
    """Start the command, wait for its end or for ours, and kill the group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    while child.poll() is None:
        if select.select([sys.stdin], [], [], _POLL_S)[0]:
            if os.read(sys.stdin.fileno(), 16):
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(_GRACE_S)
            break
    try:
        status = child.poll()
        if status is not None:
            print(f"askesis: the server ended with status {status}", flush=True)
    finally:  # also when its log cannot be written
        os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
