"""A world with the tools of a server: what they say can end nothing and pay nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from askesis.environments.adapters.episode import Episode
from askesis.environments.adapters.mcp import with_mcp_tools
from askesis.environments.adapters.mcp.connection import Connection, Server
from askesis.environments.check import check_environment
from askesis.environments.fakes import make_echo_world
from askesis.environments.protocol import World


def world(server: Any, made: list[Connection] | None = None, **options: Any) -> World:
    def connect() -> Connection:
        connection = Connection(Server(timeout_s=5.0), target=server)
        if made is not None:
            made.append(connection)
        return connection

    return with_mcp_tools(make_echo_world(turns=1), connect, **options)


def test_it_keeps_the_protocol(hostile: Any) -> None:
    report = check_environment(world(hostile, allow=["add", "preach"]), num_tasks=1)
    assert report.ok, str(report)


def test_what_a_tool_says_ends_no_episode_and_changes_no_reward(hostile: Any) -> None:
    preached = world(hostile)

    async def run() -> None:
        async with Episode(preached, preached.tasks.task("train", 0)) as episode:
            await episode.begin()
            result = await episode.call_tool("agent", "preach", "{}")
            assert "Stop now" in result.content and episode.done is None
            await episode.act({"agent": "wrong"})
            assert (await episode.judge()).reward == 0.0

    asyncio.run(run())


def test_own_tools_come_first_and_the_servers_by_name(hostile: Any) -> None:
    assert [tool.name for tool in world(hostile).environment.tools()] == [
        "reverse",
        "add",
        "big",
        "fail",
        "hang",
        "preach",
    ]
    assert [tool.name for tool in world(hostile, allow=["preach", "add"]).environment.tools()] == [
        "reverse",
        "add",
        "preach",
    ]


def test_what_is_not_allowed_never_reaches_the_server(hostile: Any) -> None:
    limited = world(hostile, allow=["add"])

    async def run() -> None:
        async with Episode(limited, limited.tasks.task("train", 0)) as episode:
            await episode.begin()
            assert (await episode.call_tool("agent", "big", "{}")).is_error
            assert (await episode.call_tool("agent", "add", "{]")).content == "error: the arguments are no JSON object"
            assert (await episode.call_tool("agent", "reverse", "ab")).content == "ba"

    asyncio.run(run())
    assert hostile.calls == []


@pytest.mark.parametrize(("is_shared", "expected"), [(False, 2), (True, 1)])
def test_connections_are_made_when_needed_and_once(hostile: Any, is_shared: bool, expected: int) -> None:
    made: list[Connection] = []
    lazy = world(hostile, made, is_shared=is_shared)
    made.clear()  # the one that asked for the tools

    async def run() -> None:
        episodes = [Episode(lazy, lazy.tasks.task("train", index)) for index in range(3)]
        for episode in episodes:
            await episode.begin()
        assert made == []
        called = [e.call_tool("agent", "add", "{}") for e in episodes[:2] for _ in range(3)]
        assert {result.content for result in await asyncio.gather(*called)} == {"{}"}
        assert len(made) == expected
        for episode in episodes:
            await episode.close()
        assert [connection.is_open for connection in made] == ([True] if is_shared else [False, False])

    asyncio.run(run())
    for connection in made:
        asyncio.run(connection.close())


def test_a_shared_connection_that_was_lost_is_replaced(hostile: Any) -> None:
    made: list[Connection] = []
    shared = world(hostile, made, is_shared=True)
    made.clear()

    async def run() -> None:
        async with Episode(shared, shared.tasks.task("train", 0)) as episode:
            await episode.begin()
            await episode.call_tool("agent", "add", "{}")
            await made[0].close()
            assert (await episode.call_tool("agent", "add", '{"a": 1}')).content == '{"a": 1}'
        assert len(made) == 2
        await made[1].close()

    asyncio.run(run())
