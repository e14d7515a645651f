"""Questions as tasks: generated from a chain world, or read from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from askesis.environments.reasoning.split import split_of
from askesis.environments.search.chain import ChainWorld
from askesis.errors import RecipeError
from askesis.streams import generator
from askesis.trace.types import Task

__all__ = ["ENVIRONMENT", "ChainTasks", "Question", "QuestionTasks"]

ENVIRONMENT = "search"
_SPLITS = ("train", "held_out")
_PATIENCE = 1000  # questions of the other split, or repeated ones, in a row after which there are taken to be no more


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question with all answers that count as right."""

    id: str
    text: str
    golds: tuple[str, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChainTasks:
    """Questions of a chain world; one in four is held out, by its text.

    A task's payload: ``question``; ``answer``, and ``answers`` with it alone; ``hops``; ``facts``, the sentences that
    the answer follows from, in order.
    """

    world: ChainWorld
    hops: tuple[int, ...] = (1, 2)
    """Drawn from with equal chance."""
    seed: int = 0

    def task(self, split: str, index: int) -> Task:
        """Question ``index`` of ``train`` or ``held_out``. RecipeError when the world is too small to have one."""
        _check_split(split)
        rng = generator(self.seed, "search", "question", split, index)
        for _ in range(_PATIENCE):
            hops = self.hops[int(rng.integers(0, len(self.hops)))]
            chain = self.world.draw(rng, hops)
            question = self.world.question(chain)
            if split_of(question) == split:
                break
        else:
            raise RecipeError(
                f"the chain world has no question for the split {split}",
                where="environment.options.num_entities",
                got=self.world.num_entities,
                next_step="raise num_entities or the number of hops",
            )
        answer = self.world.names[chain.people[-1]]
        facts = [self.world.fact(p, r) for p, r in zip(chain.people, chain.relations, strict=False)]
        return Task(
            key=f"chain/{split}/{index}",
            environment=ENVIRONMENT,
            payload={"question": question, "answer": answer, "answers": [answer], "hops": hops, "facts": facts},
            seed=self.seed,
            split=split,
            tags=("chain", f"hops_{hops}"),
        )

    def num_tasks(self, split: str) -> int | None:
        """None: they are drawn on demand."""
        _check_split(split)
        return None

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n`` with different questions; fewer when 1000 in a row bring no new one."""
        found: dict[str, Task] = {}
        index = repeats = 0
        while len(found) < n and repeats < _PATIENCE:
            task = self.task(split, index)
            question = task.payload["question"]
            repeats = repeats + 1 if question in found else 0
            found.setdefault(question, task)
            index += 1
        return list(found.values())


@dataclass(frozen=True, kw_only=True)
class QuestionTasks:
    """Questions from files, shuffled by ``seed``, again and again; a training question that is held out is left out.

    A task's payload: ``question``, ``answer`` (the first that counts) and ``answers``.
    """

    name: str
    train: Sequence[Question]
    held_out: Sequence[Question]
    seed: int = 0

    def task(self, split: str, index: int) -> Task:
        """Question ``index``; after the last one they come in another order. RecipeError when the split is empty."""
        _check_split(split)
        questions = self._questions[split]
        if not questions:
            raise RecipeError(
                f"{self.name} has no question in the split {split}",
                where=f"environment.options.{split}",
                expected="a file with at least one question that the other split does not hold",
            )
        turn, place = divmod(index, len(questions))
        question = questions[self._order(split, turn)[place]]
        return Task(
            key=f"{self.name}/{split}/{question.id}",
            environment=ENVIRONMENT,
            payload={"question": question.text, "answer": question.golds[0], "answers": list(question.golds)},
            seed=self.seed,
            split=split,
            tags=(self.name, *question.tags),
        )

    def num_tasks(self, split: str) -> int | None:
        """Different questions."""
        _check_split(split)
        return len(self._questions[split])

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n``, all that there are at most."""
        return [self.task(split, index) for index in range(min(n, len(self._questions[split])))]

    @cached_property
    def _questions(self) -> dict[str, list[Question]]:
        held_out = {q.text: q for q in reversed(self.held_out)}
        train = {q.text: q for q in reversed(self.train) if q.text not in held_out}
        return {"train": list(reversed(train.values())), "held_out": list(reversed(held_out.values()))}

    @cached_property
    def _orders(self) -> dict[tuple[str, int], list[int]]:
        return {}

    def _order(self, split: str, turn: int) -> list[int]:
        key = (split, turn)
        if key not in self._orders:
            rng = generator(self.seed, "search", self.name, split, turn)
            self._orders[key] = rng.permutation(len(self._questions[split])).tolist()
        return self._orders[key]


def _check_split(split: str) -> None:
    if split not in _SPLITS:
        raise RecipeError("unknown split", where="search tasks", got=split, expected=" or ".join(_SPLITS))
