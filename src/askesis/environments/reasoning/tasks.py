"""Tasks of one reasoning-gym family, by number and split."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from askesis.environments.reasoning.client import Worker, WorkerFailure
from askesis.errors import EnvironmentFault, RecipeError
from askesis.trace.types import Task

__all__ = ["DRAW_SECONDS", "ENVIRONMENT", "ReasoningTasks"]

ENVIRONMENT = "reasoning"
DRAW_SECONDS = 120.0
"""Deadline of drawing one task."""
_AHEAD_SECONDS = 0.05  # a request draws the following tasks as well, for this long
_KEPT = 4096  # tasks remembered
_PATIENCE = 1000  # repeated questions in a row after which a family is taken to have no other


class ReasoningTasks:
    """A task source. The splits share no question, because a question's own text decides where it belongs.

    Args:
        family: a family of reasoning-gym.
        options: resolved options, JSON-ready.
        seed: root of the stream.
        worker: the process that draws.

    A task's payload holds ``question``, ``answer`` (None where the family has several right ones and names none), what
    makes its item anew (``family``, ``options``, ``dataset_seed``, ``dataset_index``), and the few metadata that a
    scorer in our process reads. Small families repeat their questions.
    """

    def __init__(self, family: str, options: Mapping[str, Any], *, seed: int, worker: Worker) -> None:
        self._family, self._options, self._seed, self._worker = family, dict(options), seed, worker
        self._known: OrderedDict[tuple[str, int], Task] = OrderedDict()

    def num_tasks(self, split: str) -> int | None:
        """None: questions are made on demand."""
        self._check_split(split)
        return None

    def task(self, split: str, index: int) -> Task:
        """Task ``index`` of ``train`` or ``held_out``. RecipeError when the family has no question there."""
        self._check_split(split)
        if index < 0:
            raise RecipeError("a task number is negative", where="ReasoningTasks.task", got=index, expected=">= 0")
        if (split, index) not in self._known:
            for offset, item in enumerate(self._draw(split, index)):
                self._known[(split, index + offset)] = self._to_task(split, index + offset, item)
        self._known.move_to_end((split, index))
        task = self._known[(split, index)]
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return task

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n`` tasks with different questions; fewer when 1000 tasks in a row bring no new one."""
        found: dict[str, Task] = {}
        index = repeats = 0
        while len(found) < n and repeats < _PATIENCE:
            task = self.task(split, index)
            repeats = repeats + 1 if task.payload["question"] in found else 0
            found.setdefault(task.payload["question"], task)
            index += 1
        return list(found.values())

    def _draw(self, split: str, index: int) -> list[dict[str, Any]]:
        try:
            items = self._worker.request(
                "draw",
                deadline_s=DRAW_SECONDS,
                family=self._family,
                options=self._options,
                seed=self._seed,
                split=split,
                start=index,
                seconds=_AHEAD_SECONDS,
            )
        except WorkerFailure as failure:
            raise EnvironmentFault(
                "reasoning-gym could not make a task",
                where=f"{self._family}/{split}/{index}, options {self._options}",
                got=f"{failure.kind}: {failure.message}",
                next_step="try other options, or report it to reasoning-gym",
            ) from failure
        if not items:
            raise RecipeError(
                f"{self._family} has no question in the split {split!r}",
                where="environment.options",
                got=self._options,
                expected="options with more than a few different questions",
                next_step="widen the options: the text of a question decides its split, one in four is held out",
            )
        return items  # type: ignore[no-any-return]

    def _to_task(self, split: str, index: int, item: dict[str, Any]) -> Task:
        return Task(
            key=f"{self._family}/{split}/{index}",
            environment=ENVIRONMENT,
            payload={"family": self._family, "options": self._options, **item},
            seed=self._seed,
            split=split,
            tags=(self._family,),
        )

    def _check_split(self, split: str) -> None:
        if split not in ("train", "held_out"):
            raise RecipeError("unknown split", where="ReasoningTasks", got=split, expected="train or held_out")
