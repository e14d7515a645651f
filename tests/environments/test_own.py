"""A world of three functions."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from askesis.environments import check_environment
from askesis.environments.fakes import ScriptedPolicy
from askesis.environments.own import Question, is_same, question_world
from askesis.environments.play import trace_of
from askesis.environments.reasoning.split import split_of
from askesis.errors import RecipeError


def double(number: str) -> str:
    """Twice a number."""
    return str(2 * int(number))


def ask(rng: np.random.Generator) -> Question:
    number = int(rng.integers(0, 10_000))
    return Question(f"What is twice {number}?", str(2 * number))


WORLD = question_world("doubling", ask, tools=[double], instruction="Answer.")


def test_it_keeps_the_protocol() -> None:
    report = check_environment(WORLD, policy=ScriptedPolicy(["<answer>4</answer>"]))
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("replies", "reward", "answer"),
    [
        (["<answer>2</answer>", "<answer> 4 </answer>"], 1.0, "4"),
        (["<answer>4</answer>", "<answer>2</answer>"], 0.0, "2"),
        (["4"], 0.0, None),
    ],
)
def test_the_last_answer_is_judged(replies: list[str], reward: float, answer: str | None) -> None:
    task = replace(WORLD.tasks.task("train", 0), payload={"question": "What is twice 2?", "answer": "4"})
    verdict = asyncio.run(WORLD.evaluator.score(trace_of(task, replies), task))
    assert (verdict.reward, verdict.completed) == (reward, reward == 1.0)
    assert verdict.evidence["answer"] == answer


def test_another_judge_gives_parts() -> None:
    world = question_world("near", ask, score=lambda given, right: 0.5)
    task = world.tasks.task("train", 0)
    verdict = asyncio.run(world.evaluator.score(trace_of(task, ["<answer>1</answer>"]), task))
    assert (verdict.reward, verdict.completed) == (0.5, False)


def test_tasks_are_named_by_split_and_number_and_split_by_their_text() -> None:
    tasks = WORLD.tasks
    assert tasks.task("train", 3) == tasks.task("train", 3) != tasks.task("train", 4)
    for split in ("train", "held_out"):
        found = tasks.distinct_tasks(split, 20)
        assert len({task.payload["question"] for task in found}) == 20
        assert {split_of(task.payload["question"]) for task in found} == {split}
    assert tasks.num_tasks("train") is None
    with pytest.raises(RecipeError, match="unknown split"):
        tasks.task("test", 0)


def test_a_world_of_one_question_says_that_it_has_too_few() -> None:
    world = question_world("one", lambda rng: Question("Why?", "because"))
    other = "held_out" if split_of("Why?") == "train" else "train"
    assert len(world.tasks.distinct_tasks(split_of("Why?"), 5)) == 1
    with pytest.raises(RecipeError, match=f"no question for the split {other}"):
        world.tasks.task(other, 0)


def test_texts_are_the_same_but_for_case_and_outer_space() -> None:
    assert is_same(" Kalimo ", "kalimo") == 1.0 and is_same("Kalimo", "Kalim") == 0.0
