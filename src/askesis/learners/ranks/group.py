"""The ranks of a learner as the driver sees them: all are asked at once, and all answer, or the group is lost."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

import askesis
from askesis import errors
from askesis.errors import AskesisError
from askesis.learners.ranks.wire import HEADER, Message, pack_message, unpack_message

__all__ = ["LOOPBACK", "LocalRanks", "RankLost", "Ranks", "require_answers", "start_here"]

LOOPBACK = "127.0.0.1"
_GRACE_S = 0.5
"""After a rank has complained, in which the one that it complains about is seen to have died."""
_TAIL = 2000


class RankLost(Exception):
    """A rank died or did not answer. Internal: the driver starts the ranks anew."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class Ranks(ABC):
    """A group of ranks that runs. A group that lost one is of no use: collectives need all."""

    size: int
    timeout_s: float
    """For one answer, and for what ranks do together."""
    host: str
    """Where rank 0 listens, and the others find it."""

    @abstractmethod
    def call(self, requests: Sequence[Message]) -> list[Message]:
        """Ask every rank, and wait for all answers.

        Raises:
            RankLost: one died, or did not answer in time.
            AskesisError: one of ours, raised by a rank.
        """

    @abstractmethod
    def close(self) -> None:
        """End the ranks."""

    def meet(self, *, device: str, threads: int) -> None:
        """Make the ranks one process group, with ``threads`` CPU threads each. Raises RankLost."""
        answers = self.call(
            [Message({"do": "listen", "host": None if number else self.host}, {}) for number in range(self.size)]
        )
        common = {
            "do": "join",
            "host": self.host,
            "port": answers[0].head["port"],
            "size": self.size,
            "device": device,
            "threads": threads,
            "timeout_s": self.timeout_s,
        }
        self.call([Message({**common, "rank": number}, {}) for number in range(self.size)])


def require_answers(answers: Sequence[Message]) -> list[Message]:
    """The answers; raises what a rank could not do. After that the group is of no use."""
    for answer in answers:
        if "error" in answer.head:
            known = dict(answer.head)
            kind = getattr(errors, known.pop("error"), AskesisError)
            raise kind(known.pop("what"), **known)
    for number, answer in enumerate(answers):
        if "failed" in answer.head:
            raise RankLost(f"rank {number}: {answer.head['failed']}")
    return list(answers)


class _Process(NamedTuple):
    process: subprocess.Popen[bytes]
    connection: socket.socket
    errors: IO[bytes]
    """Its standard error."""


class LocalRanks(Ranks):
    """Processes on this machine, each the leader of a process group of its own.

    Args:
        size: how many.
        timeout_s: for one answer.
    """

    host = LOOPBACK

    def __init__(self, size: int, *, timeout_s: float) -> None:
        self.size = size
        self.timeout_s = timeout_s
        self._ranks = [self._start() for _ in range(size)]

    @property
    def pids(self) -> list[int]:
        """Of the ranks, in order."""
        return [rank.process.pid for rank in self._ranks]

    def call(self, requests: Sequence[Message]) -> list[Message]:
        """See :meth:`Ranks.call`."""
        deadline = time.monotonic() + self.timeout_s
        for number, (rank, request) in enumerate(zip(self._ranks, requests, strict=True)):
            rank.connection.settimeout(self.timeout_s)
            try:
                for part in pack_message(request):
                    rank.connection.sendall(part)
            except OSError as error:
                self._lost(f"rank {number} took no request: {error}")
        buffers, answers = [bytearray() for _ in self._ranks], dict[int, Message]()
        with selectors.DefaultSelector() as selector:
            for number, rank in enumerate(self._ranks):
                selector.register(rank.connection, selectors.EVENT_READ, number)
            while len(answers) < self.size:
                ready = selector.select(max(deadline - time.monotonic(), 0.0))
                if not ready:
                    late = [number for number in range(self.size) if number not in answers]
                    self._lost(f"rank {late} gave no answer within cluster.timeout_s = {self.timeout_s:g} s")
                for key, _ in ready:
                    self._receive(key.data, buffers[key.data], answers)
                if any({"failed", "error"} & answer.head.keys() for answer in answers.values()):
                    break  # the others may wait for this one
        failed = [f"rank {n}: {a.head['failed']}" for n, a in answers.items() if "failed" in a.head]
        if failed:
            self._lost(failed[0])
        return require_answers([answers[number] for number in sorted(answers)])

    def close(self) -> None:
        """See :meth:`Ranks.close`. They hold nothing that would have to be written."""
        for rank in self._ranks:
            with suppress(ProcessLookupError):
                os.killpg(rank.process.pid, signal.SIGKILL)
        for rank in self._ranks:
            rank.process.wait()
            rank.connection.close()
            rank.errors.close()
        self._ranks = []

    def _start(self) -> _Process:
        ours, theirs = socket.socketpair()
        complaints = tempfile.TemporaryFile()  # noqa: SIM115 (kept open as long as the process)
        source = str(Path(askesis.__file__).parents[1])
        path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "askesis.learners.ranks.process", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaints,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the driver
        )
        theirs.close()
        return _Process(process, ours, complaints)

    def _receive(self, number: int, buffer: bytearray, answers: dict[int, Message]) -> None:
        try:
            part = self._ranks[number].connection.recv(1 << 20)
        except OSError as error:
            self._lost(f"rank {number}: {error}")
        if not part:
            self._lost(f"rank {number} ended")
        buffer += part
        if len(buffer) < HEADER.size:
            return
        head, body = HEADER.unpack_from(buffer)
        start, end = HEADER.size + head, HEADER.size + head + body
        if len(buffer) == end:
            answers[number] = unpack_message(bytes(buffer[HEADER.size : start]), bytes(memoryview(buffer)[start:end]))

    def _lost(self, cause: str) -> NoReturn:
        """Whoever died is the cause, not those who complain of it."""
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until:
            for number, rank in enumerate(self._ranks):
                status = rank.process.poll()
                if status is not None:
                    raise RankLost(f"rank {number} {_ending(status)}{self._last_words(rank)}") from None
            time.sleep(0.02)
        raise RankLost(cause) from None

    @staticmethod
    def _last_words(rank: _Process) -> str:
        size = rank.errors.seek(0, os.SEEK_END)
        rank.errors.seek(max(size - _TAIL, 0))
        lines = rank.errors.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def start_here(size: int, *, device: str, threads: int, timeout_s: float) -> LocalRanks:
    """Ranks on this machine that have met. Raises RankLost."""
    ranks = LocalRanks(size, timeout_s=timeout_s)
    try:
        ranks.meet(device=device, threads=threads)
    except BaseException:
        ranks.close()
        raise
    return ranks


def _ending(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
