"""Micro-batches side by side on the cores of a CPU.

At the sizes that a CPU trains, one operation is over before two cores have agreed to share it. Whole micro-batches are
not: each core takes its own, and operations stay on one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["Workers"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """``threads`` threads, each of which computes on one core; with one thread, the caller's own."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool: ThreadPoolExecutor | None = None

    def map(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """``work`` of each item, in order. At most ``threads`` results are held at a time.

        Which thread does what changes no result, since each item is computed on one core.
        """
        if self.threads == 1 or len(items) == 1:
            yield from map(work, items)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(
                self.threads, thread_name_prefix="askesis-learner", initializer=torch.set_num_threads, initargs=(1,)
            )
        for start in range(0, len(items), self.threads):
            yield from list(self._pool.map(work, items[start : start + self.threads]))
