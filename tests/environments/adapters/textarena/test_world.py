"""The world ``textarena``, against the real package."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest

from askesis.environments import check_environment, make_world
from askesis.environments.adapters.episode import Episode
from askesis.environments.protocol import Done, Turn, World
from askesis.errors import RecipeError
from askesis.trace.types import Verdict

# Not imported to find out: it takes long, in every process that collects tests.
pytestmark = pytest.mark.skipif(find_spec("textarena") is None, reason="the extra `textarena` is not installed")


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("GuessTheNumber-v0", {}),
        ("TicTacToe-v0", {"players": 2, "opponent": ["[0]", "[4]", "[8]"]}),
        ("KuhnPoker-v0", {"players": 2}),
    ],
)
def test_real_games_keep_the_protocol_although_they_seed_the_global_generator(family: str, options: Any) -> None:
    report = check_environment(
        make_world("textarena", family=family, options=options), num_tasks=2, reward_range=(-1, 1)
    )
    assert report.ok, str(report)
    assert not [r for r in report.results if r.outcome == "skipped"]


def guess(world: World, index: int) -> tuple[list[str], Verdict]:
    """Halve the interval, as the game's hints allow."""

    async def run() -> tuple[list[str], Verdict]:
        low, high, seen = 1, 20, []
        async with Episode(world, world.tasks.task("train", index)) as episode:
            turn: Turn | Done = await episode.begin()
            while isinstance(turn, Turn):
                seen.append(turn.seats["agent"][-1].content)
                middle = (low + high) // 2
                turn = await episode.act({"agent": f"<think>[1]?</think> [{middle}]"})
                if isinstance(turn, Turn):
                    higher = "higher" in turn.seats["agent"][-1].content
                    low, high = (middle + 1, high) if higher else (low, middle - 1)
            return seen, await episode.judge()

    return asyncio.run(run())


def test_a_number_is_found_by_halving() -> None:
    world = make_world("textarena", family="GuessTheNumber-v0")
    lengths = set()
    for index in range(4):
        seen, verdict = guess(world, index)
        assert (verdict.reward, verdict.completed) == (1.0, True)
        assert verdict.step_rewards == (*(0.0 for _ in seen[1:]), 1.0)
        assert all("higher" in text or "lower" in text for text in seen[1:]) and len(seen) <= 5
        lengths.add(len(seen))
    assert guess(world, 0) == guess(world, 0)
    assert len(lengths) > 1  # the seeds hide different numbers


@pytest.mark.parametrize(
    ("family", "options", "complaint"),
    [
        ("GessTheNumber-v0", {}, "did you mean 'GuessTheNumber-v0'"),
        ("GuessTheNumber-v0", {"players": 2}, "cannot begin 'GuessTheNumber-v0'"),
        ("GuessTheNumber-v0", {"players": 0}, "1 or more"),
        ("GuessTheNumber-v0", {"max": 3}, "cannot begin"),
        ("TicTacToe-v0", {"players": 2, "opponent": "[1]"}, "environment.options.opponent"),
    ],
)
def test_usual_mistakes_are_named(family: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        make_world("textarena", family=family, options=options)
