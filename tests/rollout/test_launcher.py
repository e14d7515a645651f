"""The launcher, spoken to directly: lines of JSON and three descriptors."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from askesis.rollout import launcher

SCRIPT = Path(launcher.__file__)


class Peer:
    """Our end of the socket."""

    def __init__(self, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self.control, self.process = control, process
        self._lines = control.makefile("rb")
        self.pids: list[int] = []

    def hear(self) -> dict[str, Any]:
        line = self._lines.readline()
        message: dict[str, Any] = json.loads(line) if line else {}
        if "started" in message:
            self.pids.append(message.pop("pid"))
        return message

    def start(self, number: int, argv: list[str], *, fork: bool = False, cwd: str = "/") -> Path:
        """The file that gets the output."""
        path = Path(tempfile.mkdtemp()) / "out"
        order = {"start": number, "argv": argv, "env": {"PATH": os.environ["PATH"], "X": "y"}, "cwd": cwd, "fork": fork}
        with path.open("wb") as out, Path(os.devnull).open("rb") as null:
            line = json.dumps(order).encode() + b"\n"
            socket.send_fds(self.control, [line], [null.fileno(), out.fileno(), out.fileno()])
        return path

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self.control.close()


@contextmanager
def launched(*modules: str) -> Iterator[Peer]:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    with theirs:
        command = [sys.executable, str(SCRIPT), str(theirs.fileno()), *modules]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
    peer = Peer(ours, process)
    try:
        yield peer
    finally:
        peer.close()
        process.wait(20)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" if Path("/proc/self").exists() else True


def test_commands_and_scripts_run_and_are_answered_for(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("import sys, os, decimal\nprint(sys.argv, os.environ['X'], os.getcwd(), __name__)\nsys.exit(3)\n")
    with launched("decimal") as peer:
        assert peer.hear() == {"ready": True}
        command = peer.start(1, ["sh", "-c", "echo $X; exit 4"])
        assert peer.hear() == {"started": 1} and peer.hear() == {"ended": 1, "status": 4}
        forked = peer.start(2, ["python", str(script), "a"], fork=True, cwd=str(tmp_path))
        assert peer.hear() == {"started": 2} and peer.hear() == {"ended": 2, "status": 3}
        missing = peer.start(3, ["no-such-program-anywhere"])
        assert peer.hear() == {"started": 3} and peer.hear() == {"ended": 3, "status": 127}
    assert command.read_text() == "y\n"
    assert forked.read_text() == f"['{script}', 'a'] y {tmp_path} __main__\n"
    assert "No such file" in missing.read_text()


def test_a_script_that_raises_leaves_with_1_and_its_traceback(tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("raise ValueError('lost')\n")
    with launched() as peer:
        peer.hear()
        out = peer.start(1, ["python", str(script)], fork=True)
        assert [peer.hear(), peer.hear()][1] == {"ended": 1, "status": 1}
    assert "ValueError: lost" in out.read_text()


def test_a_module_that_is_not_there_is_reported() -> None:
    with launched("no_such_module_anywhere") as peer:
        answer = peer.hear()
        assert answer["ready"] is False and "no_such_module_anywhere" in answer["error"]


def test_killing_takes_the_whole_group() -> None:
    with launched() as peer:
        peer.hear()
        out = peer.start(1, ["sh", "-c", "sleep 1000 & echo $!; sleep 1000"])
        peer.hear()
        grandchild = wait_for_pid(out)
        peer.control.sendall(b'{"kill": 1}\n{"kill": 99}\n')
        assert peer.hear() == {"ended": 1, "status": -signal.SIGKILL}
        assert gone(grandchild)


def test_what_a_program_leaves_behind_is_killed() -> None:
    with launched() as peer:
        peer.hear()
        out = peer.start(1, ["sh", "-c", "sleep 1000 & echo $!"])
        assert [peer.hear(), peer.hear()][1] == {"ended": 1, "status": 0}
        assert gone(wait_for_pid(out))


def test_everything_ends_when_the_other_side_has_gone() -> None:
    with launched() as peer:
        peer.hear()
        out = peer.start(1, ["sh", "-c", "echo $$; sleep 1000"])
        peer.hear()
        child = wait_for_pid(out)
    assert peer.process.returncode == 0 and gone(child)


def test_everything_ends_when_the_other_side_has_gone_with_answers_unread() -> None:
    """The system then says that the connection was reset, in place of its end."""
    with launched() as peer:
        peer.hear()
        out = peer.start(1, ["sh", "-c", "sleep 1000 & echo $!; sleep 1000"])
        grandchild = wait_for_pid(out)
    assert peer.process.returncode == 0 and gone(grandchild)


def wait_for_pid(path: Path) -> int:
    deadline = time.monotonic() + 20
    while not (text := path.read_text()).endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return int(text)


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_alive(pid)
