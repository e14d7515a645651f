"""Every family: a task of each split, its own answer is right, and garbage is not."""

from __future__ import annotations

import asyncio
import json

import pytest

from askesis.environments import make_world
from askesis.environments.play import trace_of
from askesis.environments.reasoning.families import FAMILIES, make_dataset
from askesis.environments.reasoning.levels import load_levels
from askesis.trace import Task, VerdictStatus

# These name no right answer. Where the item's metadata hold one, it is read from there.
NO_ANSWER = {"boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"}
# Seconds pass until these have drawn a task.
SLOW = {
    "ab",
    "arc_agi",
    "figlet_font",
    "futoshiki",
    "group_anagrams",
    "intermediate_integration",
    "knight_swap",
    "puzzle24",
    "zebra_puzzles",
}
GARBAGE = ["", "nan", "[NaN, NaN, NaN, NaN]", "((((", "-1", "{}", "\x00\ud800", "9" * 5000, "nani", "0/0", "x.y()"]


def right_answer(task: Task) -> str | None:
    """The answer that the family gives, or None when it names none (or one that is not worked out)."""
    answer = task.payload["answer"]
    family = task.payload["family"]
    if answer is not None:
        return None if "Integral(" in answer else str(answer)
    assert family in NO_ANSWER
    if family not in ("graph_color", "rubiks_cube"):
        return None
    seed, index = task.payload["dataset_seed"], task.payload["dataset_index"]
    metadata = make_dataset(family, task.payload["options"], seed=seed, size=1024)[index]["metadata"]
    if family == "rubiks_cube":
        return str(metadata["example_correct_answer"])
    return json.dumps(metadata["possible_answer"])


KNOWN = load_levels()
"""Families that nano has learned: every time; the others when they are asked for."""
CASES = [
    pytest.param(family, thorough, marks=[pytest.mark.opt_in] * (thorough or family not in KNOWN))
    for family in FAMILIES
    for thorough in (False, True)
    if not (thorough and family in SLOW)
]


@pytest.mark.parametrize(("family", "thorough"), CASES)
def test_the_right_answer_is_right_and_garbage_is_not(family: str, thorough: bool) -> None:
    world = make_world("reasoning", family=family, level="nano", seed=1)

    async def check(split: str) -> None:
        task = world.tasks.task(split, 0)
        assert len(task.content_hash) == 64
        right = right_answer(task)
        if right is not None:
            verdict = await world.evaluator.score(trace_of(task, [f"<answer>{right}</answer>"]), task)
            assert (verdict.status, verdict.reward, verdict.completed) == (VerdictStatus.OK, 1.0, True), verdict
        garbage = GARBAGE if thorough or split == "held_out" else GARBAGE[:1]
        for text in (text for text in garbage if text != right):  # rotten_oranges may answer -1
            verdict = await world.evaluator.score(trace_of(task, [f"<answer>{text}</answer>"]), task)
            assert not verdict.completed, (text, verdict)
            assert verdict.reward in (0.0, None)
            assert verdict.status is VerdictStatus.OK, (text, verdict.error)

    asyncio.run(check("train"))
    asyncio.run(check("held_out"))
