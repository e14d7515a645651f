"""Programs of the operating system, from asyncio: started by a launcher process, with bounded output.

The launcher (:mod:`askesis.rollout.launcher`) kills what it started when this process ends, even by ``kill -9``. When
the launcher is killed, its programs end with it, and the next program gets a new one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from askesis.errors import EnvironmentFault

__all__ = ["Ended", "Launcher", "Process"]

_START_S = 60.0
"""For the launcher to import what it was told to."""
_STARTS = 3
_ANSWER_S = 30.0
"""For the launcher to start or to kill a program."""
_STOP_S = 10.0
_DRAIN_S = 1.0
"""For what is left in a pipe when the program has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. A negative ``status`` is the number of the signal that killed it."""

    status: int
    output: str
    errors: str
    num_output_bytes: int
    """Written in all to standard output; ``output`` may be the beginning only."""
    reason: str = ""
    """Why it was killed, when that was not for its own sake."""


class _Kept(asyncio.Protocol):
    """Keeps the beginning of a stream, or its end, and counts the rest."""

    def __init__(self, limit: int, *, keep_end: bool) -> None:
        self.data = bytearray()
        self.size = 0
        self.closed = asyncio.get_running_loop().create_future()
        self._limit, self._keep_end = limit, keep_end

    def data_received(self, data: bytes) -> None:
        self.size += len(data)
        if self._keep_end:
            self.data += data
            del self.data[: -self._limit]
        else:
            self.data += data[: self._limit - len(self.data)]

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Process:
    """A program that was started. Await ``ended``; ``kill`` ends it with all of its group."""

    def __init__(self, number: int, launcher: Launcher, ended: asyncio.Task[Ended]) -> None:
        self._number, self._launcher = number, launcher
        self.ended = ended

    def kill(self) -> None:
        """End it now. Harmless when it has ended."""
        self._launcher.kill(self._number)


class Launcher:
    """Starts programs; an asynchronous context manager.

    Args:
        python: interpreter of the launcher. It matters only for ``preload``.
        preload: modules to import before the first program starts.

    Raises:
        EnvironmentFault: a module cannot be imported, or the system has no processes of this kind (Windows).
    """

    def __init__(self, *, python: str = sys.executable, preload: Sequence[str] = ()) -> None:
        self._python, self._preload = python, tuple(preload)
        self._buffer = b""
        self._numbers = 0
        self._held: list[bytes] | None = None
        self._turn = asyncio.Lock()
        self._answers: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._started: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._groups: dict[int, int] = {}
        self._is_lost = True

    async def __aenter__(self) -> Launcher:
        if not hasattr(os, "fork"):
            raise EnvironmentFault("black-box programs need POSIX processes", got=sys.platform, expected="Linux, macOS")
        await self._open()
        return self

    async def _open(self) -> None:
        """Start the launcher; again when it is killed while it starts."""
        for _ in range(_STARTS):
            ready = await self._begin()
            if ready["ready"]:
                self._is_lost = False
                return
            await self.__aexit__()
            if "status" not in ready:  # it says so itself
                raise EnvironmentFault(
                    "a module to be loaded before the program cannot be imported",
                    where=f"environment.options.preload, {self._python}",
                    got=ready["error"],
                    next_step="install it for that interpreter, or leave it out",
                )
        raise EnvironmentFault(
            "the launcher of programs dies while it starts",
            where=self._python,
            got=f"{_STARTS} times, the last time with status {self._process.returncode}",
            next_step="see who kills it; the system does when memory is short",
        )

    async def _begin(self) -> Mapping[str, Any]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [self._python, str(Path(__file__).with_name("launcher.py")), str(theirs.fileno()), *self._preload],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_basic_environment(),
            )
        self._control = ours
        self._buffer, self._held = b"", None
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Mapping[str, Any]] = loop.create_future()
        loop.add_reader(ours, self._read)
        try:
            return await asyncio.wait_for(self._ready, _START_S)
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._hang_up()
        self._fail("the launcher was closed")
        await asyncio.to_thread(self._end)

    def _hang_up(self) -> None:
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()

    def _end(self) -> int:
        """Wait for its end, which comes when nobody listens to it any more. How it ended."""
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    async def start(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, stdin: str, limit: int, forks: bool
    ) -> Process:
        """Start a program.

        Args:
            argv: the command; with ``forks`` ``(python, script, argument...)``, run in a fork of the launcher.
            env: added to a bare environment: PATH, HOME and the locale.
            cwd: folder to start in.
            stdin: what it can read.
            limit: bytes that are kept of standard output and of standard error.
            forks: see ``argv``.

        Raises EnvironmentFault when it cannot be started.
        """
        loop = asyncio.get_running_loop()
        self._numbers += 1
        number = self._numbers
        order = {
            "start": number,
            "argv": list(argv),
            "env": {**_basic_environment(), **env},
            "cwd": cwd,
            "fork": forks,
        }
        streams: list[tuple[asyncio.ReadTransport, _Kept]] = []
        async with self._turn:  # one at a time, so that descriptors and lines stay together
            if self._is_lost:
                await self._open_again()
            with tempfile.TemporaryFile() as source:
                source.write(stdin.encode("utf-8", "replace"))
                source.seek(0)
                fds = [source.fileno()]
                try:
                    for keep_end in (False, True):
                        ours, theirs = os.pipe()
                        fds.append(theirs)
                        streams.append(await _read_pipe(ours, _Kept(limit, keep_end=keep_end)))
                    ended = self._answers[number] = loop.create_future()
                    started = self._started[number] = loop.create_future()
                    await self._order(order, fds)
                finally:
                    for fd in fds[1:]:
                        os.close(fd)
                answer = await started
        if "error" in answer:
            for transport, _ in streams:
                transport.close()
            raise EnvironmentFault("the program cannot be started", where=argv[0], got=answer["error"])
        return Process(number, self, asyncio.ensure_future(_collect(ended, streams)))

    def kill(self, number: int) -> None:
        """Kill a program with its group."""
        line = json.dumps({"kill": number}).encode() + b"\n"
        if self._held is not None:
            self._held.append(line)
            return
        with suppress(OSError):  # the launcher has gone, and its programs with it
            self._control.send(line)
        self._expect(self._answers.get(number))

    async def _order(self, order: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Tell the launcher; it is lost when it does not listen."""
        started = self._started[order["start"]]
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._send(order, fds)
        except (OSError, ValueError, TimeoutError):  # a ValueError: it was lost, and the socket closed, half-way
            self._process.kill()
            self._lose()
        self._expect(started)

    def _expect(self, answer: asyncio.Future[Mapping[str, Any]] | None) -> None:
        """A launcher that lives and does not answer is killed: that ends its programs, and whoever waits for them."""
        process = self._process

        def look(answer: asyncio.Future[Mapping[str, Any]]) -> None:
            if not answer.done():
                process.kill()

        if answer is not None and not answer.done():
            asyncio.get_running_loop().call_later(_ANSWER_S, look, answer)

    async def _open_again(self) -> None:
        self._hang_up()
        status = await asyncio.to_thread(self._end)
        logging.getLogger(__name__).warning("the launcher of programs has died (%d) and is started again", status)
        await self._open()

    def _lose(self) -> None:
        """The launcher has died: so have its programs, and what they started must not stay behind."""
        self._hang_up()
        self._is_lost = True
        self._fail("the launcher has died")
        for leader in self._groups.values():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(leader, signal.SIGKILL)
        self._groups.clear()

    async def _send(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        data = json.dumps(message).encode() + b"\n"
        sent = socket.send_fds(self._control, [data], list(fds))
        if sent == len(data):
            return
        held: list[bytes] = []
        self._held = held  # nothing may come between the parts of a long line
        try:
            await asyncio.get_running_loop().sock_sendall(self._control, data[sent:])
            for line in held:
                await asyncio.get_running_loop().sock_sendall(self._control, line)
        finally:
            self._held = None

    def _read(self) -> None:
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        self._buffer += data
        while b"\n" in self._buffer:
            line, _, self._buffer = self._buffer.partition(b"\n")
            self._take(json.loads(line))

    def _take(self, message: Mapping[str, Any]) -> None:
        if "ready" in message:
            _resolve(self._ready, message)
        elif "started" in message:
            self._groups[message["started"]] = message["pid"]
            _resolve(self._started.pop(message["started"], None), message)
        else:
            number = message["ended"]
            self._groups.pop(number, None)
            _resolve(self._started.pop(number, None), message)  # it never began
            _resolve(self._answers.pop(number, None), message)

    def _fail(self, reason: str) -> None:
        waiting = [self._ready, *self._started.values(), *self._answers.values()]
        self._started.clear()
        self._answers.clear()
        for future in waiting:
            _resolve(future, {"ready": False, "error": reason, "status": -9})


async def _read_pipe(fd: int, kept: _Kept) -> tuple[asyncio.ReadTransport, _Kept]:
    return await asyncio.get_running_loop().connect_read_pipe(lambda: kept, os.fdopen(fd, "rb", 0))


def _resolve(future: asyncio.Future[Mapping[str, Any]] | None, message: Mapping[str, Any]) -> None:
    if future is not None and not future.done():
        future.set_result(message)


async def _collect(
    ended: asyncio.Future[Mapping[str, Any]], streams: Sequence[tuple[asyncio.ReadTransport, _Kept]]
) -> Ended:
    """Wait for the end, then for what is still in the pipes."""
    try:
        message = await ended
        await asyncio.wait([kept.closed for _, kept in streams], timeout=_DRAIN_S)
    finally:
        for transport, _ in streams:
            transport.close()
    (_, output), (_, errors) = streams
    return Ended(
        status=message["status"],
        output=output.text,
        errors=errors.text,
        num_output_bytes=output.size,
        reason=str(message.get("error", "")),
    )


def _basic_environment() -> dict[str, str]:
    """What programs get of our environment: no keys, no proxies, nothing that belongs to this run."""
    names = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in names if name in os.environ} or {"PATH": os.defpath}
