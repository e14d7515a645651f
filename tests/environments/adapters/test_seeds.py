"""Tasks that are seeds."""

from __future__ import annotations

import pytest

from askesis.environments.adapters.seeds import SeedTasks
from askesis.errors import RecipeError

TASKS = SeedTasks(environment="w", family="f", seed=5)


def test_a_task_is_a_function_of_its_number() -> None:
    again = SeedTasks(environment="w", family="f", seed=5)
    assert [TASKS.task("train", i) for i in range(5)] == [again.task("train", i) for i in range(5)]
    assert TASKS.task("train", 0).payload != SeedTasks(environment="w", family="f", seed=6).task("train", 0).payload
    assert TASKS.num_tasks("train") is None


def test_the_splits_share_no_seed() -> None:
    train = {TASKS.task("train", i).payload["seed"] for i in range(200)}
    held_out = {TASKS.task("held_out", i).payload["seed"] for i in range(200)}
    assert all(seed % 2 == 0 for seed in train) and all(seed % 2 == 1 for seed in held_out)
    assert max(train | held_out) < 2**31 and len(train) > 190


def test_distinct_tasks_differ() -> None:
    tasks = TASKS.distinct_tasks("held_out", 7)
    assert len({task.payload["seed"] for task in tasks}) == 7


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(RecipeError, match="unknown split"):
        TASKS.task("test", 0)
