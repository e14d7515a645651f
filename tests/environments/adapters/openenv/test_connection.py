"""One web socket to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `openenv` is not installed")
pytest.importorskip("websockets", reason="the extra `openenv` is not installed")

from askesis.environments.adapters.openenv import make_app
from askesis.environments.adapters.openenv.connection import Connection, fetch_schema, socket_url
from askesis.environments.adapters.openenv.wire import WireError
from askesis.environments.fakes import make_echo_world
from askesis.errors import EnvironmentFault, RecipeError


def test_addresses() -> None:
    assert socket_url("http://h:1/") == "ws://h:1/ws"
    assert socket_url("https://h/space") == "wss://h/space/ws"
    for bad in ("", "h:1", "ftp://h", "file:///etc/passwd", "http://"):
        with pytest.raises(RecipeError, match="no address of an OpenEnv server"):
            socket_url(bad)


def test_a_dialogue_and_a_server_without_a_free_place(serving: Callable[[Any], str]) -> None:
    url = serving(make_app(make_echo_world(), max_concurrent_envs=1))
    assert "text" in fetch_schema(url)["properties"]

    async def talk() -> None:
        one, two = Connection(url), Connection(url)
        await one.open()
        assert "Repeat" in (await one.reset(3)).observation["text"]
        await two.open()
        with pytest.raises(WireError, match="CAPACITY_REACHED"):
            await two.reset(3)
        await two.close()
        with pytest.raises(WireError, match="VALIDATION_ERROR"):
            await one.step({"text": 5})
        await one.close()
        await one.close()

    asyncio.run(talk())


def test_nobody_answers() -> None:
    async def talk() -> None:
        with pytest.raises(EnvironmentFault, match="does not answer"):
            await Connection("http://127.0.0.1:9").open()

    asyncio.run(talk())
    with pytest.raises(RecipeError, match="does not say what its actions are"):
        fetch_schema("http://127.0.0.1:9")
