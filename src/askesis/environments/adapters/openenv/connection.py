"""One web socket to an OpenEnv server: one environment of its, ours alone."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from askesis.environments.adapters.openenv.wire import Observation, message, observation_of
from askesis.environments.adapters.requiring import require
from askesis.errors import EnvironmentFault, RecipeError

__all__ = ["Connection", "fetch_schema", "socket_url"]

_MAX_BYTES = 16 * 2**20
_OPEN_S = 10.0


def socket_url(url: str) -> str:
    """The address of the web socket below a server's address. RecipeError for one that is neither http nor ws."""
    parts = urlsplit(url)
    scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
    if scheme is None or not parts.netloc:
        raise RecipeError(
            "this is no address of an OpenEnv server",
            where="environment.options.url",
            got=url,
            expected="for example http://127.0.0.1:8000",
        )
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}/ws"


def fetch_schema(url: str) -> dict[str, Any]:
    """The JSON schema of a server's actions. RecipeError when it cannot be had."""
    address = socket_url(url).removesuffix("/ws").replace("ws", "http", 1) + "/schema"
    try:
        with urllib.request.urlopen(address, timeout=_OPEN_S) as answer:
            schema = json.loads(answer.read(_MAX_BYTES))["action"]
        if not isinstance(schema, dict):
            raise TypeError(f"its action is {type(schema).__name__}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            "the OpenEnv server does not say what its actions are",
            where="environment.options.url",
            got=f"{address}: {type(error).__name__}: {error}",
            next_step="start the server, or correct the address",
        ) from error
    return schema


class Connection:
    """Talks to one environment. Opened by :meth:`open`; every call raises WireError for what the server refuses."""

    def __init__(self, url: str) -> None:
        self._url = socket_url(url)
        self._socket: Any = None

    async def open(self) -> None:
        """Connect. EnvironmentFault when nobody answers."""
        websockets = require("websockets.asyncio.client", extra="openenv", purpose="a connection to an OpenEnv server")
        try:
            self._socket = await websockets.connect(
                self._url, max_size=_MAX_BYTES, open_timeout=_OPEN_S, close_timeout=1.0
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise self._lost(error) from error

    async def reset(self, seed: int) -> Observation:
        """Begin an episode."""
        return await self._ask("reset", {"seed": seed})

    async def step(self, action: Mapping[str, Any]) -> Observation:
        """Act."""
        return await self._ask("step", action)

    async def close(self) -> None:
        """Say good-bye; the server then frees the environment. Never raises."""
        socket, self._socket = self._socket, None
        if socket is None:
            return
        exceptions = require("websockets.exceptions", extra="openenv", purpose="a connection to an OpenEnv server")
        with suppress(OSError, exceptions.WebSocketException):  # it may be gone already
            await socket.send(message("close"))
            await socket.close()

    async def _ask(self, kind: str, data: Mapping[str, Any]) -> Observation:
        exceptions = require("websockets.exceptions", extra="openenv", purpose="a connection to an OpenEnv server")
        try:
            # A server without a free place says so and hangs up; what it said can still be read.
            with suppress(exceptions.ConnectionClosed):
                await self._socket.send(message(kind, data))
            answer = await self._socket.recv()
        except (OSError, exceptions.WebSocketException) as error:
            raise self._lost(error) from error
        return observation_of(answer)

    def _lost(self, error: Exception) -> EnvironmentFault:
        return EnvironmentFault(
            "the OpenEnv server does not answer",
            where=self._url,
            got=f"{type(error).__name__}: {error}",
            next_step="is it running, and does it take that many sessions at once?",
        )
