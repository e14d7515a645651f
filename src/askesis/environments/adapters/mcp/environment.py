"""Any of our environments, with the tools of an MCP server beside its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence

from askesis.environments.adapters.mcp.connection import Connection
from askesis.environments.protocol import Capabilities, Done, Environment, ToolResult, Turn
from askesis.gateway.session import Session
from askesis.trace.types import Message, ToolCall, ToolSpec

__all__ = ["McpEnvironment"]

_ALL = ""
"""Key of the connection that all sessions share."""


class McpEnvironment:
    """Episodes, rewards and ends are those of ``inner``; the server only answers calls, so nothing that it says can
    end an episode or change a reward.

    A connection, and with it a server that is started for us, is made at the first call.

    Args:
        inner: the environment.
        connect: makes a connection that is not open yet.
        tools: of the server that may be called.
        is_shared: all sessions use one connection, to a server that keeps no state. Otherwise each has its own.
    """

    def __init__(
        self,
        inner: Environment,
        connect: Callable[[], Connection],
        tools: Sequence[ToolSpec],
        *,
        is_shared: bool = False,
    ) -> None:
        self._inner, self._connect, self._tools = inner, connect, tuple(tools)
        self._names = {tool.name for tool in tools}
        self._is_shared = is_shared
        self._connections: dict[str, Connection] = {}
        self._opening: dict[str, asyncio.Task[Connection]] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Those of the environment inside; what a server answers is not known to be deterministic."""
        return Capabilities(deterministic=False, concurrent=self._inner.capabilities.concurrent)

    async def reset(self, session: Session) -> Turn:
        """As inside."""
        return await self._inner.reset(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """As inside."""
        return await self._inner.step(session, acts)

    def tools(self) -> tuple[ToolSpec, ...]:
        """Those of the environment, then the server's by name."""
        return (*self._inner.tools(), *self._tools)

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """Have the server run a tool, or as inside. EnvironmentFault when the server does not answer."""
        if call.name not in self._names:
            return await self._inner.call_tool(session, seat, call)
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            return ToolResult(content="error: the arguments are no JSON object", is_error=True)
        connection = await self._connected(_ALL if self._is_shared else session.id)
        return await connection.call(call.name, arguments)

    async def close(self, session: Session) -> None:
        """As inside; then disconnect what is the session's own."""
        opening = self._opening.pop(session.id, None)
        if opening is not None:
            opening.cancel()
            await asyncio.wait({opening})
        connection = self._connections.pop(session.id, None)
        try:
            await self._inner.close(session)
        finally:
            if connection is not None:
                await connection.close()

    async def _connected(self, key: str) -> Connection:
        """The connection called ``key``; calls side by side open only one. One that was lost is replaced."""
        known = self._connections.get(key)
        if known is not None and known.is_open:
            return known
        if key not in self._opening:
            self._opening[key] = asyncio.ensure_future(self._open(key))
        return await asyncio.shield(self._opening[key])

    async def _open(self, key: str) -> Connection:
        try:
            connection = self._connect()
            await connection.open()
            self._connections[key] = connection
            return connection
        finally:
            self._opening.pop(key, None)
