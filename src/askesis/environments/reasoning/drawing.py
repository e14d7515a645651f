"""From (family, options, seed, split, index) to one question: a pure function with random access.

Tasks are drawn in blocks, one reasoning-gym data set per block. Task ``i`` of a block is the first of the items
``i``, ``i + BLOCK``, ``i + 2 BLOCK``, … whose question belongs to the split. So no task depends on another one: a
run that resumes at task 100,000 need not draw the 99,999 before it.

This runs in a worker process of its own with a fixed hash seed (:mod:`askesis.environments.reasoning.worker`),
because some families are not pure: they iterate over sets of strings, draw from Python's global generator, or seed
numpy's.
"""

from __future__ import annotations

import random
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from askesis.environments.reasoning.families import make_dataset
from askesis.environments.reasoning.split import split_of
from askesis.streams import seed_of

__all__ = ["BLOCK", "Drawer"]

BLOCK = 64
"""Tasks per data set."""
_TRIES = 16
"""Items per task in a data set. When none of them belongs to the split, another data set is taken."""
_ROUNDS = 64
"""Data sets tried per task. A split that is missed by 64 x 16 items in a row is empty."""
_SIZE = BLOCK * _TRIES
_SEEDS = 2**31  # some families hand the seed plus the index to numpy, which takes 32 bits
_DATASETS, _ENTRIES = 16, 512  # kept for the next request


@dataclass
class Drawer:
    """Draws items and finds them again, with a small memory of recent data sets and items."""

    _datasets: OrderedDict[tuple[str, str, int], Any] = field(default_factory=OrderedDict)
    _entries: OrderedDict[tuple[str, str, int, int], dict[str, Any]] = field(default_factory=OrderedDict)

    def dataset(self, family: str, options: Mapping[str, Any], seed: int) -> Any:
        """The data set, built anew or remembered."""
        key = (family, repr(sorted(options.items())), seed)
        if key not in self._datasets:
            _seed_globals(seed)
            self._datasets[key] = make_dataset(family, options, seed=seed, size=_SIZE)
            if len(self._datasets) > _DATASETS:
                self._datasets.popitem(last=False)
        self._datasets.move_to_end(key)
        return self._datasets[key]

    def entry(self, family: str, options: Mapping[str, Any], seed: int, index: int) -> dict[str, Any]:
        """One item of a data set, with all that its scorer needs."""
        key = (family, repr(sorted(options.items())), seed, index)
        if key not in self._entries:
            dataset = self.dataset(family, options, seed)
            _seed_globals(seed_of(seed, index))
            self._entries[key] = dataset[index]
            if len(self._entries) > _ENTRIES:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key]

    def draw(
        self, family: str, options: Mapping[str, Any], seed: int, split: str, index: int
    ) -> tuple[int, int, dict[str, Any]] | None:
        """Data-set seed, position in it, and item of task ``index``; None when the split has no question.

        An item that its family fails to make is passed over; when no item could be made, its error is raised.
        """
        failure: Exception | None = None
        block, place = divmod(index, BLOCK)
        for number in range(_ROUNDS):
            dataset_seed = seed_of(seed, "reasoning-gym", family, split, block, number) % _SEEDS
            for position in range(place, _SIZE, BLOCK):
                try:
                    entry = self.entry(family, options, dataset_seed, position)
                except Exception as error:  # a few items of a few families (codeio) cannot be made
                    failure = error
                    continue
                if split_of(entry["question"]) == split:
                    return dataset_seed, position, entry
        if failure is not None:
            raise failure
        return None

    def draw_many(
        self, family: str, options: Mapping[str, Any], seed: int, split: str, start: int, seconds: float
    ) -> list[tuple[int, int, dict[str, Any]]]:
        """Task ``start`` and, while ``seconds`` last, those after it in its block; empty if there are none."""
        drawn = []
        deadline = time.monotonic() + seconds
        for index in range(start, start - start % BLOCK + BLOCK):
            item = self.draw(family, options, seed, split, index)
            if item is None:
                break
            drawn.append(item)
            if time.monotonic() > deadline:
                break
        return drawn


def _seed_globals(seed: int) -> None:
    """Give the families that draw from a global generator (list_functions, codeio) the same draws every time.

    Allowed here only because the worker process has no other user of these generators.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
