"""The world as a whole."""

from __future__ import annotations

import asyncio
import random

import numpy as np
import pytest

from askesis.environments import SEAT, make_world
from askesis.environments.fakes import ScriptedPolicy
from askesis.environments.play import Bench
from askesis.environments.reasoning.environment import DEFAULT_INSTRUCTION
from askesis.environments.reasoning.levels import load_levels
from askesis.errors import RecipeError


def test_a_session_from_task_to_verdict() -> None:
    world = make_world("reasoning", family="spell_backward", level="nano", seed=5, instruction="")

    def solve(messages: list[object]) -> str:
        word = messages[-1].content.split()[-1]  # type: ignore[attr-defined]
        return f"<answer>{word[::-1]}</answer>"

    bench = Bench(
        world=world,
        policy=ScriptedPolicy(solve),  # type: ignore[arg-type]
        num_tasks=5,
        seed=0,
        max_turns=3,
        call_timeout_s=60.0,
        reward_range=(0.0, 1.0),
    )

    async def main() -> list[float | None]:
        return [(await bench.score(await bench.play(task))).reward for task in bench.train_tasks()]

    before = random.getstate(), np.random.get_state()[1].tobytes()
    assert asyncio.run(main()) == [1.0] * 5
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before


@pytest.mark.parametrize(
    ("instruction", "first"), [(None, DEFAULT_INSTRUCTION), ("Be brief.", "Be brief."), ("", None)]
)
def test_the_instruction(instruction: str | None, first: str | None) -> None:
    world = make_world("reasoning", family="gcd", instruction=instruction)
    bench = Bench(
        world=world,
        policy=ScriptedPolicy(["x"]),
        num_tasks=1,
        seed=0,
        max_turns=1,
        call_timeout_s=60.0,
        reward_range=(0.0, 1.0),
    )
    turn = asyncio.run(bench.reset(bench.session(bench.train_tasks()[0])))
    system = [m.content for m in turn.seats[SEAT] if m.role == "system"]
    assert system == ([] if first is None else [first])


def test_level_and_options_reach_the_tasks() -> None:
    nano = make_world("reasoning", family="chain_sum", level="nano").tasks.task("train", 0).payload["options"]
    assert nano == load_levels()["chain_sum"]
    hard = make_world("reasoning", family="chain_sum", level="nano", options={"max_terms": 9}).tasks.task("train", 0)
    assert hard.payload["options"] == {**nano, "max_terms": 9}
    assert make_world("reasoning", family="chain_sum").tasks.task("train", 0).payload["options"] == {}


def test_partial_credit_is_an_option_of_the_world() -> None:
    world = make_world("reasoning", family="chain_sum", options={"partial_credit": True})
    assert world.evaluator.partial_credit is True  # type: ignore[attr-defined]
    assert world.tasks.task("train", 0).payload["options"] == {}
    with pytest.raises(RecipeError, match="partial_credit"):
        make_world("reasoning", family="chain_sum", options={"partial_credit": 1})
