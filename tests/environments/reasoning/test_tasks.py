"""Tasks by number and split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from askesis.environments.reasoning.client import Worker, shared_worker
from askesis.environments.reasoning.split import split_of
from askesis.environments.reasoning.tasks import ReasoningTasks
from askesis.errors import EnvironmentFault, RecipeError

SUMS = {"min_terms": 2, "max_terms": 3}


def source(family: str = "chain_sum", options: dict[str, Any] | None = None, seed: int = 1) -> ReasoningTasks:
    return ReasoningTasks(family, SUMS if options is None else options, seed=seed, worker=shared_worker("draw"))


def test_a_task_is_a_function_of_seed_split_and_number() -> None:
    forward = [source().task("train", i) for i in range(150)]
    backward = source()
    assert [backward.task("train", i) for i in reversed(range(150))] == forward[::-1]
    assert source(seed=2).task("train", 0).payload["question"] != forward[0].payload["question"]
    assert source().task("train", 10**9).payload["question"]


def test_the_splits_share_no_question() -> None:
    tasks = source()
    questions = {s: {tasks.task(s, i).payload["question"] for i in range(300)} for s in ("train", "held_out")}
    assert questions["train"].isdisjoint(questions["held_out"])
    for split, texts in questions.items():
        assert {split_of(text) for text in texts} == {split}


def test_what_a_task_says() -> None:
    task = source().task("held_out", 5)
    assert (task.key, task.environment, task.split, task.tags) == (
        "chain_sum/held_out/5",
        "reasoning",
        "held_out",
        ("chain_sum",),
    )
    assert task.payload["options"] == SUMS and task.payload["metadata"] == {}
    assert len(task.content_hash) == 64
    assert source().num_tasks("train") is None


def test_distinct_tasks_are_the_first_distinct_ones() -> None:
    tasks = source("chain_sum", {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
    found = tasks.distinct_tasks("train", 40)
    stream = [tasks.task("train", i) for i in range(400)]
    firsts: dict[str, Any] = {}
    for task in stream:
        firsts.setdefault(task.payload["question"], task)
    assert len(firsts) < len(stream)
    assert found == list(firsts.values())[:40]


def test_a_small_family_gives_all_that_it_has() -> None:
    small = {"min_n": 1, "max_n": 20}
    tasks = source("count_bits", small)
    train, held_out = (tasks.distinct_tasks(split, 500) for split in ("train", "held_out"))
    assert len(train) + len(held_out) == 20
    assert len({t.payload["question"] for t in (*train, *held_out)}) == 20


def test_an_empty_split_is_an_error_with_a_way_out() -> None:
    tasks = source("count_bits", {"min_n": 5, "max_n": 5})
    question = next(t for t in _either(tasks)).payload["question"]
    other = {"train": "held_out", "held_out": "train"}[split_of(question)]
    with pytest.raises(RecipeError, match="no question in the split") as caught:
        tasks.task(other, 0)
    assert "widen the options" in (caught.value.next_step or "")


def _either(tasks: ReasoningTasks) -> Iterator[Any]:
    for split in ("train", "held_out"):
        try:
            yield tasks.task(split, 0)
        except RecipeError:
            continue


def test_wrong_names_and_numbers_are_refused() -> None:
    with pytest.raises(RecipeError, match="unknown split"):
        source().task("test", 0)
    with pytest.raises(RecipeError, match="unknown split"):
        source().num_tasks("test")
    with pytest.raises(RecipeError, match="negative"):
        source().task("train", -1)


def test_a_family_that_fails_is_an_environment_fault() -> None:
    with pytest.raises(EnvironmentFault, match="could not make a task") as caught:
        source("gcd", {"min_value": 5, "max_value": 1}).task("train", 0)
    assert "gcd/train/0" in (caught.value.where or "")


IMPURE = ["isomorphic_strings", "list_functions", "polynomial_multiplication", "pool_matrix", "ransom_note"]


def test_every_process_draws_the_same() -> None:
    """These iterate over sets of strings or draw from a global generator."""
    other = Worker()
    for family in IMPURE:
        one = source(family, {})
        two = ReasoningTasks(family, {}, seed=1, worker=other)
        two.task("train", 6)
        assert [two.task("train", i) for i in range(8)] == [one.task("train", i) for i in range(8)], family
    other.close()
