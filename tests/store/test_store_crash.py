"""kill -9 at any moment leaves whole groups only."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from askesis.store import Store

WRITER = """
import sys
from pathlib import Path
from askesis.store import Group, Member, RunRecord, Store
from askesis.trace import Call, StopReason, Task, TraceBuilder, Verdict, VerdictStatus

path, started = Path(sys.argv[1]), int(sys.argv[2])
store = Store.open(path)
store.add_run(RunRecord(run_id="R", recipe_hash="h", recipe={}, seed=1, versions={}))
for number in range(started, 100_000):
    calls = [Call(key=0, context=[1, number + 2], sampled=[i + 2] * 40, logprobs=[-1.0] * 40) for i in range(8)]
    verdict = Verdict(status=VerdictStatus.OK, evaluator="e/1", rewards={"r": (1.0, 1.0)})
    members = [
        Member(member_index=i, seed=i, trace=TraceBuilder([c]).finish(StopReason.TERMINATED), verdict=verdict)
        for i, c in enumerate(calls)
    ]
    task = Task(key=str(number), environment="e", payload={})
    name = f"R/train/{number}"
    store.append_group(
        Group(group_id=name, run_id="R", purpose="train", step=number, task=task, members=tuple(members))
    )
    store.consume("R", [name], step=number)
    if number % 5 == 0:
        store.write_head(path.with_suffix(".heads"))
    print(number, flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a POSIX signal")
def test_kill_at_random_moments(tmp_path: Path) -> None:
    path, rng, confirmed = tmp_path / "s.db", random.Random(0), -1
    for attempt in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(confirmed + 1)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        if attempt:  # the first is killed while it starts: before, during or after the creation of the tables
            confirmed = int(writer.stdout.readline())
        time.sleep(rng.random() * 0.2 if attempt else 0.45)
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split("\n")[:-1]  # a line without its end was not confirmed
        writer.stdout.close()
        writer.wait(timeout=30)
        confirmed = max([confirmed, *map(int, rest)])
        with Store.open(path) as store:
            heads = path.with_suffix(".heads")
            assert store.verify(heads=heads if heads.exists() else None).findings == ()
            groups = list(store.groups("R"))
            assert len(groups) in (confirmed + 1, confirmed + 2)  # all that was confirmed, and perhaps one more
            assert all(len(g.members) == 8 for g in groups)
            assert len(groups) - len(store.consumed("R")) in (0, 1)
            confirmed = len(store.consumed("R")) - 1
    assert confirmed >= 5
