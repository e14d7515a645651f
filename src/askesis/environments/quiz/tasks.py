"""Quizzes: questions of two families, in an order of their own."""

from __future__ import annotations

from dataclasses import dataclass

from askesis.environments.reasoning.tasks import ReasoningTasks
from askesis.streams import generator
from askesis.trace.types import Task

__all__ = ["ENVIRONMENT", "QuizTasks"]

ENVIRONMENT = "quiz"
_PATIENCE = 1000  # repeated quizzes in a row after which there are taken to be no others


@dataclass(frozen=True, kw_only=True)
class QuizTasks:
    """A task source. The splits share no question, as those of the families do not.

    A task's payload holds ``questions``: for each turn the payload of its reasoning task, with ``counts`` (bool): does
    the reward depend on it? Their order is drawn for each task.

    Args:
        counted: where the questions come from on which the reward depends.
        other: where the others come from.
        counted_turns: how many of the first kind, at least one.
        other_turns: how many of the second.
        seed: root of the order's stream.
    """

    counted: ReasoningTasks
    other: ReasoningTasks
    counted_turns: int
    other_turns: int
    seed: int

    def num_tasks(self, split: str) -> int | None:
        """None: quizzes are made on demand."""
        return self.counted.num_tasks(split)

    def task(self, split: str, index: int) -> Task:
        """Quiz ``index`` of ``train`` or ``held_out``. RecipeError when a family has no question there."""
        chosen = [
            (True, self.counted.task(split, index * self.counted_turns + i)) for i in range(self.counted_turns)
        ] + [(False, self.other.task(split, index * self.other_turns + i)) for i in range(self.other_turns)]
        order = generator(self.seed, "quiz", split, index).permutation(len(chosen))
        questions = [{"counts": chosen[i][0], **chosen[i][1].payload} for i in order]
        return Task(
            key=f"quiz/{split}/{index}",
            environment=ENVIRONMENT,
            payload={"questions": questions},
            seed=self.seed,
            split=split,
            tags=tuple(sorted({question["family"] for question in questions})),
        )

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n`` quizzes with different questions; fewer when 1000 in a row bring no new one."""
        found: dict[tuple[str, ...], Task] = {}
        index = repeats = 0
        while len(found) < n and repeats < _PATIENCE:
            task = self.task(split, index)
            asked = tuple(sorted(question["question"] for question in task.payload["questions"]))
            repeats = repeats + 1 if asked in found else 0
            found.setdefault(asked, task)
            index += 1
        return list(found.values())
