"""Tasks of worlds that are set up by a seed."""

from __future__ import annotations

from dataclasses import dataclass

from askesis.errors import RecipeError
from askesis.streams import seed_of
from askesis.trace.types import Task

__all__ = ["SeedTasks"]

_SPLITS = ("train", "held_out")


@dataclass(frozen=True, kw_only=True)
class SeedTasks:
    """Endless tasks that differ in their seed: even ones are for training, odd ones held out.

    A task's payload: ``family`` and ``seed`` (31 bits), with which every session of the task is set up.
    """

    environment: str
    family: str
    seed: int = 0

    def task(self, split: str, index: int) -> Task:
        """Task ``index`` of ``train`` or ``held_out``."""
        if split not in _SPLITS:
            raise RecipeError("unknown split", where=f"{self.environment} tasks", got=split, expected=_SPLITS)
        drawn = seed_of(self.seed, self.environment, self.family, split, index) % 2**30
        return Task(
            key=f"{self.family}/{split}/{index}",
            environment=self.environment,
            payload={"family": self.family, "seed": 2 * drawn + _SPLITS.index(split)},
            seed=self.seed,
            split=split,
            tags=(self.family,),
        )

    def num_tasks(self, split: str) -> int | None:
        """None: there is no end to them."""
        return None

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n`` with different seeds."""
        found: dict[int, Task] = {}
        index = 0
        while len(found) < n:
            task = self.task(split, index)
            found.setdefault(task.payload["seed"], task)
            index += 1
        return list(found.values())
