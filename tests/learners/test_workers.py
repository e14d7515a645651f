"""Work side by side: in order, bounded, on one core each."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from askesis.learners.workers import Workers


def test_one_thread_is_the_callers_own() -> None:
    assert list(Workers(1).map(lambda _: threading.get_ident(), [1, 2])) == [threading.get_ident()] * 2


def test_results_come_in_order_whoever_is_first() -> None:
    barrier = threading.Barrier(2, timeout=10)

    def work(item: int) -> int:
        barrier.wait()  # both are at work at once, or this times out
        time.sleep(0.02 * (item % 2 == 0))
        return item

    assert list(Workers(2).map(work, [0, 1, 2, 3])) == [0, 1, 2, 3]


def test_no_more_results_are_held_than_there_are_threads() -> None:
    done: list[int] = []
    results = Workers(2).map(done.append, range(6))
    next(results)
    assert sorted(done) == [0, 1]


def test_workers_compute_on_one_core_and_leave_the_others_alone() -> None:
    before = torch.get_num_threads()
    barrier = threading.Barrier(2, timeout=10)

    def work(_: int) -> int:
        barrier.wait()
        return torch.get_num_threads()

    assert list(Workers(2).map(work, [0, 1])) == [1, 1]
    assert torch.get_num_threads() == before


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(Workers(2).map(lambda x: 1 // x, [1, 0]))
