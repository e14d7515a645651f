"""The world ``openenv``, against a server of ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `openenv` is not installed")
pytest.importorskip("websockets", reason="the extra `openenv` is not installed")

from askesis.environments import check_environment, make_world
from askesis.environments.adapters.environment import GameEnvironment
from askesis.environments.adapters.episode import Episode
from askesis.environments.adapters.game import Beat
from askesis.environments.adapters.openenv import make_app
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.seeds import SeedTasks
from askesis.environments.fakes import make_echo_world
from askesis.environments.protocol import World
from askesis.errors import RecipeError
from askesis.trace.types import StopReason, Verdict


class Last:
    """One act; a text of at most three characters terminates and pays its length, a longer one truncates."""

    def begin(self) -> Beat:
        return Beat(seen={"agent": "say something short"})

    def parse(self, seat: str, text: str) -> str:
        return text

    def play(self, actions: Any) -> Beat:
        size = len(actions["agent"])
        stop = StopReason.TERMINATED if size <= 3 else StopReason.ENVIRONMENT_LIMIT
        return Beat(seen={}, paid={"agent": size}, stop=stop, reason="" if size <= 3 else "too long")

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def short(serving: Callable[[Any], str]) -> str:
    world = World(
        name="last",
        environment=GameEnvironment(lambda session: Last()),
        evaluator=ReturnEvaluator("last"),
        tasks=SeedTasks(environment="last", family="last"),
    )
    return serving(make_app(world))


@pytest.fixture(scope="module")
def echo(serving: Callable[[Any], str]) -> str:
    return serving(make_app(make_echo_world()))


def test_it_keeps_the_protocol(echo: str, short: str) -> None:
    for url in (echo, short):
        report = check_environment(
            make_world("openenv", family="any", options={"url": url}), num_tasks=1, reward_range=(0, 200_000)
        )
        assert report.ok, str(report)


@pytest.mark.parametrize(("said", "stop"), [("abc", StopReason.TERMINATED), ("abcd", StopReason.ENVIRONMENT_LIMIT)])
def test_return_and_end_come_through(short: str, said: str, stop: StopReason) -> None:
    world = make_world("openenv", family="last", options={"url": short, "solved_at": 3})

    async def run() -> tuple[StopReason, Verdict]:
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            await episode.begin()
            await episode.act({"agent": said})
            assert episode.done is not None
            return episode.done.stop, await episode.judge()

    ended, verdict = asyncio.run(run())
    assert (ended, verdict.reward, verdict.completed) == (stop, float(len(said)), True)


def test_the_servers_tools_are_offered(echo: str) -> None:
    world = make_world("openenv", family="echo", options={"url": echo})

    async def run() -> tuple[str, float | None]:
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            words = [(await episode.begin()).seats["agent"][-1].content.rpartition("\n")[2]]
            result = await episode.call_tool("agent", "reverse", '{"text": "ab"}')
            turn = await episode.act({"agent": words[0]})
            await episode.act({"agent": turn.seats["agent"][-1].content})
            return result.content, (await episode.judge()).reward

    assert [tool.name for tool in world.environment.tools()] == ["reverse"]
    assert asyncio.run(run()) == ('}"ba" :"txet"{', 1.0)


@pytest.mark.parametrize("options", [{}, {"url": "nowhere"}, {"url": "http://127.0.0.1:9"}, {"url": "x", "port": 1}])
def test_usual_mistakes_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError) as caught:
        make_world("openenv", family="any", options=options)
    assert (caught.value.where or "").startswith("environment.options")
