"""A small process that starts programs and answers for them. Run as a script, by path: it imports nothing of ours.

It imports modules once and forks: a Python script then begins where those imports ended, which saves most of its start.
Other commands are executed. Each program leads a process group of its own, which is killed as a whole when the
program ends, when it is told to, and when whoever started the launcher has gone, for whatever reason. On Linux a
program also ends when the launcher itself is killed; the rest of its group is then killed by whoever started the
launcher, who knows its number.

Over a socket come lines of JSON, with three file descriptors (standard input, output and error) when a program is to
be started; lines of JSON go back.

    -> {"start": 7, "argv": [...], "env": {...}, "cwd": "/...", "fork": true}
    <- {"started": 7, "pid": 1234} or {"ended": 7, "error": "..."}
    -> {"kill": 7}
    <- {"ended": 7, "status": 0}          a negative status is the number of a signal
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import pathlib
import runpy
import select
import signal
import socket
import sys
from typing import Any

__all__ = ["main", "serve"]

_MAX_LINE = 1 << 22
_PR_SET_PDEATHSIG = 1


def serve(control: socket.socket, wake: int) -> dict[str, Any] | None:
    """Start and reap programs until the other side has gone: None. In a forked child: what it is to do."""
    children: dict[int, int] = {}
    buffer = b""
    received: list[int] = []
    while True:
        ready = select.select([control.fileno(), wake], [], [])[0]
        if wake in ready:
            os.read(wake, 4096)
            _reap(control, children)
        if control.fileno() not in ready:
            continue
        try:
            data, fds, _, _ = socket.recv_fds(control, 1 << 16, 3)
        except OSError:  # it has gone before it read our answers
            data, fds = b"", []
        received += fds
        if not data or len(buffer) > _MAX_LINE:
            for child in children.values():
                _kill(child)
            return None
        buffer += data
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            order = json.loads(line)
            if "kill" in order:
                if order["kill"] in children:
                    _kill(children[order["kill"]])
                continue
            stdio, received = received[:3], received[3:]
            launcher = os.getpid()
            try:
                child = os.fork()
            except OSError as error:
                _send(control, {"ended": order["start"], "error": str(error)})
            else:
                if child == 0:
                    _die_with(launcher)
                    return {**order, "stdio": stdio}
                children[order["start"]] = child
                _send(control, {"started": order["start"], "pid": child})
            for fd in stdio:
                os.close(fd)


def _die_with(parent: int) -> None:
    """Have the system kill this process when ``parent``, which started it, is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it was quicker
        os._exit(1)


def _reap(control: socket.socket, children: dict[int, int]) -> None:
    for number, child in list(children.items()):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            del children[number]
            _kill_group(child)  # what it left behind
            _send(control, {"ended": number, "status": os.waitstatus_to_exitcode(status)})


def _kill(child: int) -> None:
    """Kill a child that has not been reaped, with its group.

    A young one has not made its group yet. So the child comes first: what is being killed starts nothing any more.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(child, signal.SIGKILL)
    _kill_group(child)


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _send(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the other side has gone; the next read says so
        control.sendall(json.dumps(message).encode() + b"\n")


def _become(order: dict[str, Any]) -> None:
    """Turn this forked process into the program. Does not return from a command."""
    os.setsid()
    for fd, given in enumerate(order["stdio"]):
        os.dup2(given, fd)
        os.close(given)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    argv = order["argv"]
    if not order["fork"]:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            os.execvpe(argv[0], argv, order["env"])
        except OSError as error:
            sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
            sys.stderr.flush()
            os._exit(127)
    sys.argv = argv[1:]
    sys.path.insert(0, str(pathlib.Path(argv[1]).parent))
    runpy.run_path(argv[1], run_name="__main__")


def main() -> None:
    """``launcher.py FD [MODULE...]``: import the modules, say so, and serve over the socket FD."""
    del sys.path[0]  # this file's folder, whose modules have names that others have too
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        for name in sys.argv[2:]:
            importlib.import_module(name)
    except Exception as error:  # a module may raise anything
        _send(control, {"ready": False, "error": f"{type(error).__name__}: {error}"})
        return
    wake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us; we end when it does
    gc.freeze()  # memory stays shared with the children
    _send(control, {"ready": True})
    order = serve(control, wake)
    if order is None:
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    control.close()
    os.close(wake)
    os.close(wakes)
    _become(order)


if __name__ == "__main__":
    main()
