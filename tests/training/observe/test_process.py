"""Is the process that drives a run still there?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from askesis.training.observe.process import describe_process, is_alive, this_process


def test_this_process_is_alive() -> None:
    process = this_process()
    assert is_alive(process) is True
    assert (
        describe_process({**process, "since": 0})
        == f"process {os.getpid()} on {process['host']}, since 1970-01-01 00:00:00 UTC"
    )


def test_a_process_that_has_ended_is_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert is_alive({**this_process(), "pid": child.pid}) is False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell when processes began")
def test_another_process_of_the_same_number_is_not_it() -> None:
    assert is_alive({**this_process(), "born": "12"}) is False


def test_nothing_is_known_of_other_machines() -> None:
    assert is_alive({**this_process(), "host": "elsewhere"}) is None
    assert is_alive(None) is None
