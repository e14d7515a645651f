"""Nothing that the keeper started is left, however we end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from askesis.engines.vllm import keeper

SLEEPER = "import os, time; os.fork(); os.write(1, b'%d\\n' % os.getpid()); time.sleep(60)"


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(keeper.__file__)), sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def pids(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(2)]


def wait_gone(numbers: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(_lives(n) for n in numbers):
        assert time.monotonic() < deadline, f"still there: {numbers}"
        time.sleep(0.02)


def _lives(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("order", [b"", b"stop\n"])
def test_the_group_ends_when_we_close_or_ask(order: bytes) -> None:
    process = start(SLEEPER)
    numbers = pids(process)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(order)
    process.stdin.close()
    wait_gone(numbers)
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_what_a_command_leaves_behind_ends_with_it() -> None:
    process = start("import os, time\nif os.fork():\n    os._exit(3)\nprint(os.getpid(), flush=True); time.sleep(60)")
    assert process.stdout is not None and process.stdin is not None
    number = int(process.stdout.readline())
    wait_gone([number])
    process.wait(10)
    assert b"ended with status 3" in process.stdout.read()
    process.stdin.close()
    process.stdout.close()
    assert os.getpgid(0) != process.pid
