"""A training run in Ray as a command of its own: whatever ends it, nothing that it started stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from askesis.training.rundir import RunDir
from processes_below import alive, descendants
from small_run import NANO


@pytest.mark.skipif(os.environ.get("ASKESIS_TEST_CLUSTER") != "1", reason="starts Ray: make test-cluster")
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", ["kill", "interrupt", "normal"])
def test_no_process_outlives_the_driver(end: str, tmp_path: Path) -> None:
    steps = 2 if end == "normal" else 500
    file = tmp_path / "r.toml"
    file.write_text("")
    options = [*NANO, f"training.steps={steps}", f'run.dir="{tmp_path / "run"}"']
    command = [
        sys.executable,
        "-m",
        "askesis",
        "train",
        str(file),
        *options,
        "cluster.kind=ray",
        "cluster.workers=1",
        "cluster.environment_workers=1",
    ]
    driver = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background inherit it ignored
    )
    seen: set[tuple[int, str]] = set()
    live = tmp_path / "run" / "live.json"
    try:
        limit = time.monotonic() + 300
        while driver.poll() is None and time.monotonic() < limit:
            seen |= descendants(driver.pid)
            with suppress(OSError, ValueError):
                if end != "normal" and json.loads(live.read_text()).get("step", 0) >= 1:
                    driver.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
                    break
            time.sleep(0.3)
        driver.wait(120)
    finally:
        driver.kill()
    assert len(seen) > 4  # raylet, its helpers, workers
    limit = time.monotonic() + 150  # Ray's own agents notice the end of their raylet late
    while alive(seen) and time.monotonic() < limit:
        time.sleep(0.5)
    assert not alive(seen)
    if end == "normal":
        assert RunDir(tmp_path / "run").state()["status"] == "finished"
