"""A connection to one MCP server, of either generation of the protocol.

Servers of 2026-07-28 and later are asked without a handshake; older ones (2025-11-25 and before) get ``initialize``
and a session. The connection lives in a task of its own in an event loop of its own, so that any loop can use it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from askesis.environments.adapters.blocking import LoopThread
from askesis.environments.adapters.requiring import require
from askesis.environments.adapters.texts import shown
from askesis.environments.protocol import ToolResult
from askesis.errors import EnvironmentFault
from askesis.trace.types import ToolSpec

__all__ = ["Connection", "Server"]

_LOOP = LoopThread("askesis-mcp")
_PURPOSE = "a connection to an MCP server"
_MAX_TOOLS = 1000
_PAGES = 100
_OPENING_S = 60.0
"""For a server to start and to shake hands."""
_CLOSING_S = 10.0
_CLOSED = "Connection closed"
"""What the library calls a lost connection. A server may use the same code for errors of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to reach a server: the address of one that runs, or the command of one that is started for us."""

    url: str = ""
    command: Sequence[str] = ()
    mode: str = "auto"
    """``auto`` finds the generation out; ``legacy``, or a version such as ``2026-07-28``, is insisted on."""
    timeout_s: float = 30.0
    """Of each answer."""

    def __str__(self) -> str:
        return self.url or " ".join(self.command)


class Connection:
    """An open connection. :meth:`open` first, :meth:`close` at the end; both from any event loop."""

    def __init__(self, server: Server, *, target: Any = None) -> None:
        """``target`` takes the place of the server's address: anything that ``mcp.Client`` connects to."""
        self._server = server
        self._target = target
        self._client: Any = None
        self._task: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None
        self._is_lost = False

    @property
    def protocol_version(self) -> str:
        """What was agreed on."""
        return str(self._client.protocol_version)

    @property
    def is_open(self) -> bool:
        """Opened, and neither closed nor lost."""
        task = self._task
        return self._client is not None and task is not None and not task.done() and not self._is_lost

    async def open(self) -> None:
        """Connect. EnvironmentFault when that fails."""
        await _LOOP.awaited(self._open())

    async def list_tools(self) -> tuple[ToolSpec, ...]:
        """The server's tools by name, so that their order says nothing. EnvironmentFault when it does not answer."""
        return await _LOOP.awaited(self._guarded(self._list()))

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Run a tool. What the tool says of an error is a result, and so is that it did not answer in time.
        EnvironmentFault when the server is lost.
        """
        return await _LOOP.awaited(self._guarded(self._call(name, arguments)))

    async def close(self) -> None:
        """Disconnect, and end a server that was started for us. Never raises."""
        await _LOOP.awaited(self._close())

    async def _open(self) -> None:
        self._closing = asyncio.Event()
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._hold(opened, self._closing))
        try:
            async with asyncio.timeout(_OPENING_S):
                await asyncio.shield(opened)
        except Exception as error:  # whatever the library or the server makes of it
            await self._close()
            raise self._fault("cannot be reached", error) from error

    async def _hold(self, opened: asyncio.Future[None], closing: asyncio.Event) -> None:
        """Keeps the connection open. The library wants to leave it in the task that entered it."""
        mcp = require("mcp", extra="mcp", purpose=_PURPOSE)
        # What a foreign server writes to its stderr must not reach the user's terminal.
        complaints = Path(os.devnull).open("w")  # noqa: SIM115 (closed below, when the server has ended)
        try:
            async with mcp.Client(
                self._target or self._address(mcp, complaints),
                mode=self._server.mode,
                read_timeout_seconds=_OPENING_S,  # of the handshake; each answer has its own deadline below
                cache=None,
            ) as self._client:
                opened.set_result(None)
                await closing.wait()
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(_root(error))
        finally:
            complaints.close()

    def _address(self, mcp: Any, complaints: Any) -> Any:
        if self._server.url:
            return self._server.url
        words = self._server.command
        return mcp.stdio_client(mcp.StdioServerParameters(command=words[0], args=list(words[1:])), errlog=complaints)

    async def _list(self) -> tuple[ToolSpec, ...]:
        tools: list[Any] = []
        cursor = None
        for _ in range(_PAGES):
            page = await self._client.list_tools(cursor=cursor)
            tools.extend(page.tools)
            cursor = page.next_cursor
            if cursor is None or len(tools) > _MAX_TOOLS:
                break
        specs = (
            ToolSpec(name=t.name, description=shown(t.description or "", 2000), parameters=dict(t.input_schema))
            for t in tools[:_MAX_TOOLS]
        )
        return tuple(sorted(specs, key=lambda tool: tool.name))

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        mcp = require("mcp", extra="mcp", purpose=_PURPOSE)
        try:
            async with asyncio.timeout(self._server.timeout_s):
                result = await self._client.call_tool(name, dict(arguments))
        except TimeoutError:
            return ToolResult(content=f"error: no answer within {self._server.timeout_s} s", is_error=True)
        except mcp.MCPError as error:
            if (error.error.code, error.error.message) == (mcp.types.CONNECTION_CLOSED, _CLOSED):
                self._is_lost = True
                raise
            return ToolResult(content=shown(f"error: {error}", 2000), is_error=True)  # such as wrong arguments
        return ToolResult(content=shown(_text(result.content)), is_error=bool(result.is_error))

    async def _guarded(self, coroutine: Any) -> Any:
        """The answer, within the deadline of a start; a server that goes away is a fault."""
        if not self.is_open:
            coroutine.close()
            raise self._fault("is not connected", None)
        try:
            async with asyncio.timeout(self._server.timeout_s + _OPENING_S):
                return await coroutine
        except Exception as error:  # whatever the library raises about a connection
            raise self._fault("does not answer", error) from error

    async def _close(self) -> None:
        task, self._task = self._task, None
        if task is None or self._closing is None:
            return
        self._closing.set()
        _, late = await asyncio.wait({task}, timeout=_CLOSING_S)
        for left in late:
            left.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def _fault(self, what: str, error: Exception | None) -> EnvironmentFault:
        return EnvironmentFault(
            f"the MCP server {what}",
            where=str(self._server),
            got=None if error is None else f"{type(error).__name__}: {error}",
            next_step="start the server by hand to see what it says",
        )


def _root(error: BaseException) -> BaseException:
    """The first cause in a group of errors."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _text(content: Sequence[Any]) -> str:
    """The texts of a result; anything else is named."""
    return "\n".join(block.text if block.type == "text" else f"[{block.type}]" for block in content)
