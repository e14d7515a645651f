"""One play of one of our worlds by somebody outside."""

from __future__ import annotations

import asyncio

import pytest

from askesis.environments.adapters.episode import Episode
from askesis.environments.fakes import make_echo_world
from askesis.environments.protocol import Done, Turn
from askesis.errors import EnvironmentFault
from askesis.trace.types import StopReason

WORLD = make_echo_world(turns=2)
TASK = WORLD.tasks.task("train", 0)


def test_the_verdict_is_the_worlds_own() -> None:
    async def play() -> None:
        async with Episode(WORLD, TASK) as episode:
            turn = await episode.begin()
            assert turn.seats["agent"][-1].content == TASK.payload["words"][0]
            assert isinstance(await episode.act({"agent": TASK.payload["words"][0]}), Turn)
            assert (await episode.call_tool("agent", "reverse", "ab")).content == "ba"
            assert isinstance(await episode.act({"agent": "wrong \ud800"}), Done)
            verdict = await episode.judge()
            assert (verdict.reward, verdict.completed) == (0.5, False)
            with pytest.raises(EnvironmentFault, match="the episode is over"):
                await episode.act({"agent": "more"})
        with pytest.raises(EnvironmentFault):
            await WORLD.environment.step(episode.session, {})

    asyncio.run(play())


def test_an_episode_that_was_left_is_judged_by_what_was_said() -> None:
    async def play() -> float | None:
        async with Episode(WORLD, TASK) as episode:
            await episode.begin()
            await episode.act({"agent": TASK.payload["words"][0]})
            return (await episode.judge(stop=StopReason.MAX_TURNS)).reward

    assert asyncio.run(play()) == 0.5


def test_two_episodes_of_a_task_are_two_sessions() -> None:
    assert Episode(WORLD, TASK).session.id != Episode(WORLD, TASK).session.id
