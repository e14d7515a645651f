"""The world as a whole, by recipe."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from askesis.environments import check_environment, make_world
from askesis.environments.fakes import ScriptedPolicy
from askesis.environments.play import Bench
from askesis.environments.reasoning.levels import load_levels
from askesis.errors import RecipeError


def make(**options: Any) -> Any:
    return make_world("quiz", family="spell_backward", level="nano", options=options, seed=5, instruction="")


def test_it_keeps_the_protocol() -> None:
    report = check_environment(make(other="gcd"), num_tasks=3)
    assert report.ok, str(report)


@pytest.mark.parametrize(("knows", "reward"), [("spell_backward", 1.0), ("gcd", 0.0)])
def test_who_knows_only_one_family_is_paid_for_that_one(knows: str, reward: float) -> None:
    world = make(other="gcd", counted_turns=2, other_turns=2)
    known = {
        q["question"]: q["answer"]
        for i in range(3)
        for q in world.tasks.task("train", i).payload["questions"]
        if q["family"] == knows
    }

    def say(messages: Any) -> str:
        assert len(messages) == 1  # a fresh conversation for each question
        return f"<answer>{known.get(messages[-1].content, 'unknown')}</answer>"

    bench = Bench(
        world=world,
        policy=ScriptedPolicy(say),
        num_tasks=3,
        seed=0,
        max_turns=8,
        call_timeout_s=60.0,
        reward_range=(0.0, 1.0),
    )

    async def main() -> list[tuple[float | None, int]]:
        plays = [await bench.play(task) for task in bench.train_tasks()]
        return [((await bench.score(play)).reward, len(play.turns)) for play in plays]

    assert asyncio.run(main()) == [(reward, 4)] * 3


def test_options_reach_their_family() -> None:
    questions = make(other="gcd", other_max_value=9, counted_min_word_len=5).tasks.task("train", 0).payload["questions"]
    options = {q["family"]: q["options"] for q in questions}
    assert options["gcd"] == {**load_levels()["gcd"], "max_value": 9}
    assert options["spell_backward"] == {**load_levels()["spell_backward"], "min_word_len": 5}


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "second family"),
        ({"other": "gdc"}, "gcd"),
        ({"other": "gcd", "counted_turns": 0}, "counted_turns"),
        ({"other": "gcd", "other_turns": True}, "other_turns"),
        ({"other": "gcd", "max_value": 3}, "max_value"),
        ({"other": "gcd", "counted_max_value": 3}, "max_value"),
    ],
)
def test_mistakes_are_refused(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(RecipeError, match=hint):
        make(**options)
