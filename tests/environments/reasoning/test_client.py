"""Deadlines, crashes and replacement of the worker process."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from askesis.environments.reasoning.client import Worker, WorkerFailure, shared_worker

DRAW: dict[str, Any] = {"family": "gcd", "options": {}, "seed": 1, "split": "train", "start": 0, "seconds": 0.0}
COUNTDOWN: dict[str, Any] = {"family": "countdown", "options": {}, "seed": 1, "index": 0}
TOWER = "9**9**9**9**9"  # arithmetic that ends after the universe


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    one = Worker()
    yield one
    one.close()


def ping(worker: Worker) -> None:
    """A request that is answered without importing reasoning-gym, which takes its time."""
    with pytest.raises(WorkerFailure) as caught:
        worker.request("ping", deadline_s=60)
    assert caught.value.kind == "KeyError"


def pid(worker: Worker) -> int:
    assert worker._process is not None
    return worker._process.child.pid


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_is_used_again(worker: Worker) -> None:
    first = worker.request("draw", deadline_s=60, **DRAW)
    number = pid(worker)
    assert worker.request("draw", deadline_s=60, **DRAW) == first
    assert pid(worker) == number


def test_what_a_request_raises_is_reported_and_the_worker_lives_on(worker: Worker) -> None:
    worker.request("draw", deadline_s=60, **DRAW)
    number = pid(worker)
    with pytest.raises(WorkerFailure) as caught:
        worker.request("draw", deadline_s=60, **{**DRAW, "options": {"min_value": "x"}})
    assert caught.value.kind == "RecipeError" and "min_value" in caught.value.message
    assert worker.request("draw", deadline_s=60, **DRAW) and pid(worker) == number


def test_a_hanging_scorer_is_killed_at_its_deadline_and_replaced(worker: Worker) -> None:
    worker.request("prepare", deadline_s=60, **COUNTDOWN)
    number = pid(worker)
    started = time.monotonic()
    with pytest.raises(WorkerFailure) as caught:
        worker.request("score", deadline_s=0.5, cpu_seconds=60, answer=TOWER, **COUNTDOWN)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - started < 5.0
    assert not alive(number)
    ping(worker)
    assert pid(worker) != number


@pytest.mark.opt_in
def test_a_worker_that_overruns_its_processor_time_dies_without_us(worker: Worker) -> None:
    worker.request("prepare", deadline_s=60, **COUNTDOWN)
    with pytest.raises(WorkerFailure) as caught:
        worker.request("score", deadline_s=60, cpu_seconds=0, answer=TOWER, **COUNTDOWN)
    assert caught.value.kind == "crash" and str(-signal.SIGXCPU) in caught.value.message
    ping(worker)


def test_a_killed_worker_is_replaced(worker: Worker) -> None:
    ping(worker)
    os.kill(pid(worker), signal.SIGKILL)
    with pytest.raises(WorkerFailure) as caught:
        worker.request("ping", deadline_s=60)
    assert caught.value.kind == "crash"
    ping(worker)


def test_a_forgotten_worker_leaves_no_process() -> None:
    one = Worker()
    ping(one)
    number = pid(one)
    assert alive(number)
    del one
    gc.collect()
    assert not alive(number)


def test_a_fork_of_ours_starts_a_worker_of_its_own(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    ping(worker)
    ours = worker._process
    assert ours is not None
    monkeypatch.setattr("askesis.environments.reasoning.client.os.getpid", lambda: -1)
    ping(worker)
    assert worker._process is not ours and ours.stop() == "" and alive(ours.child.pid)
    worker.close()
    monkeypatch.undo()
    ours.stop()
    assert not alive(ours.child.pid)


def test_shared_workers_are_shared_and_apart() -> None:
    assert shared_worker("draw") is shared_worker("draw")
    assert shared_worker("draw") is not shared_worker("score")
