"""Our worlds as MCP servers, for clients of both generations."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

mcp = pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from askesis.environments.adapters.mcp import make_server  # noqa: E402
from askesis.environments.fakes import make_echo_world  # noqa: E402
from askesis.environments.protocol import World  # noqa: E402
from askesis.errors import RecipeError  # noqa: E402
from askesis.trace.types import Task, ToolSpec, Verdict  # noqa: E402

WORLD = make_echo_world(turns=2)


async def call(client: Any, name: str, **arguments: object) -> tuple[str, bool]:
    result = await client.call_tool(name, arguments)
    return result.content[0].text, bool(result.is_error)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_episode_is_played_by_its_handle(mode: str) -> None:
    verdicts: list[tuple[Task, Verdict]] = []

    async def keep(task: Task, verdict: Verdict) -> None:
        verdicts.append((task, verdict))

    async def run() -> None:
        async with mcp.Client(make_server(WORLD, on_verdict=keep), mode=mode) as client:
            assert [t.name for t in (await client.list_tools()).tools] == ["begin_episode", "reply", "reverse"]
            begun = json.loads((await call(client, "begin_episode", task=3))[0])
            words = WORLD.tasks.task("train", 3).payload["words"]
            assert begun["messages"][-1] == {"role": "user", "content": words[0]}
            handle = begun["episode"]
            assert await call(client, "reverse", episode=handle, text="ab") == ('}"ba" :"txet"{', False)
            assert json.loads((await call(client, "reply", episode=handle, text=words[0]))[0]) == {
                "over": False,
                "messages": [{"role": "user", "content": words[1]}],
            }
            assert verdicts == []
            over = await call(client, "reply", episode=handle, text="wrong")
            assert over == ('{"over": true, "messages": []}', False)  # and not a word of the reward
            assert await call(client, "reply", episode=handle, text="x") == (
                "error: there is no such episode; begin one",
                True,
            )

    asyncio.run(run())
    assert [(task.key, verdict.reward) for task, verdict in verdicts] == [("echo/train/3", 0.5)]


def test_wrong_calls_are_told_and_end_nothing() -> None:
    async def run() -> None:
        async with mcp.Client(make_server(WORLD)) as client:
            assert (await call(client, "begin_episode", task=-1))[1]
            assert (await call(client, "reverse", episode="guessed", text="x"))[1]
            one = json.loads((await call(client, "begin_episode"))[0])
            two = json.loads((await call(client, "begin_episode"))[0])
            assert one["episode"] != two["episode"] and len(one["episode"]) >= 20
            assert one["messages"] != two["messages"]
            assert (await call(client, "reply", episode=one["episode"], text=5))[1]
            assert (await call(client, "win", episode=one["episode"]))[0] == "there is no tool called 'win'"
            assert not (await call(client, "reply", episode=two["episode"], text="x"))[1]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "properties"), [("reply", {}), ("begin_episode", {}), ("fine", {"episode": {"type": "string"}})]
)
def test_tools_that_would_be_mistaken_are_refused(name: str, properties: dict[str, Any]) -> None:
    class Tooled(type(WORLD.environment)):  # type: ignore[misc]
        def tools(self) -> tuple[ToolSpec, ...]:
            return (ToolSpec(name=name, description="", parameters={"type": "object", "properties": properties}),)

    tooled = World(name="t", environment=Tooled(), evaluator=WORLD.evaluator, tasks=WORLD.tasks)
    with pytest.raises(RecipeError, match="cannot be served"):
        make_server(tooled)


def test_over_http_both_generations_play(serving: Any) -> None:
    from askesis.environments.adapters.mcp.connection import Connection, Server

    url = serving(make_server(WORLD).streamable_http_app()) + "/mcp"

    async def play(mode: str) -> tuple[str, str]:
        connection = Connection(Server(url=url, mode=mode))
        await connection.open()
        begun = json.loads((await connection.call("begin_episode", {"task": 3})).content)
        result = await connection.call("reverse", {"episode": begun["episode"], "text": "ab"})
        version = connection.protocol_version
        await connection.close()
        return version, result.content

    assert asyncio.run(play("auto")) == ("2026-07-28", '}"ba" :"txet"{')
    assert asyncio.run(play("legacy")) == ("2025-11-25", '}"ba" :"txet"{')
