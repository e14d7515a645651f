"""The world ``mcp``: another world, with the tools of an MCP server.

MCP knows tools and nothing else: no reset, no reward, no end. So the task, the reward and the end are another world's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from askesis.environments.adapters.blocking import LoopThread
from askesis.environments.adapters.mcp.connection import Connection, Server
from askesis.environments.adapters.mcp.environment import McpEnvironment
from askesis.environments.adapters.options import Options
from askesis.environments.adapters.requiring import require
from askesis.environments.protocol import World
from askesis.errors import EnvironmentFault, RecipeError, did_you_mean
from askesis.trace.types import ToolSpec

__all__ = ["make", "with_mcp_tools"]

ENVIRONMENT = "mcp"
_LOOP = LoopThread("askesis-mcp-world")


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A world with a server's tools; see :func:`askesis.environments.make_world`.

    Args:
        family: of the world that is played.
        level: of that world.
        options: ``world``, which is played (``reasoning``); ``command``, a list of the words that start a server, or
            ``url``, the address of one; ``allow``, a list of the tools that may be called (by default all);
            ``shared`` (false), one connection for all sessions, to a server that keeps no state; ``protocol``,
            ``auto``, ``legacy`` or a version; ``timeout_s`` (10.0) of each answer. All others are options of the world
            that is played.
        seed: root of the stream of tasks.
        instruction: of the world that is played.
    """
    require("mcp", extra="mcp", purpose="the environment 'mcp'")
    from askesis.environments.registry import make_world  # the registry names this module

    taken = Options(ENVIRONMENT, options)
    name = taken.take("world", str, "reasoning")
    command, url = taken.texts("command"), taken.take("url", str, "")
    if bool(command) == bool(url):
        raise taken.wrong("command", list(command) or None, "either command or url, and not both")
    if url and not url.startswith(("http://", "https://")):
        raise taken.wrong("url", url, "an address such as http://127.0.0.1:8000/mcp")
    allow = taken.texts("allow")
    is_shared = taken.take("shared", bool, False)
    mode = taken.take("protocol", str, "auto")
    timeout_s = taken.take("timeout_s", float, 10.0)
    if name == ENVIRONMENT:
        raise taken.wrong("world", name, "another world than mcp")
    inner = make_world(name, family=family, level=level, options=taken.rest(), seed=seed, instruction=instruction)
    server = Server(url=url, command=command, mode=mode, timeout_s=timeout_s)
    return with_mcp_tools(inner, lambda: Connection(server), allow=allow, is_shared=is_shared)


def with_mcp_tools(
    world: World, connect: Callable[[], Connection], *, allow: Sequence[str] = (), is_shared: bool = False
) -> World:
    """``world`` with the tools of a server; ``allow`` names those that may be called, empty: all.

    Raises RecipeError when the server cannot be asked, lacks a tool that is allowed, or has one that the world has too.
    """
    try:
        tools = _LOOP.run(_tools(connect()))
    except EnvironmentFault as error:
        raise RecipeError(
            error.what, where=error.where, got=error.got, expected="an MCP server", next_step=error.next_step
        ) from error
    offered = {tool.name for tool in tools}
    if missing := [name for name in allow if name not in offered]:
        raise RecipeError(
            "the MCP server has no such tool",
            where="environment.options.allow",
            got=missing,
            expected=", ".join(sorted(offered)),
            next_step=did_you_mean(missing[0], offered),
        )
    kept = [tool for tool in tools if not allow or tool.name in allow]
    if twice := sorted({tool.name for tool in kept} & {tool.name for tool in world.environment.tools()}):
        raise RecipeError(
            "the world and the MCP server have tools of the same name",
            where="environment.options.allow",
            got=twice,
            next_step="allow other tools of the server",
        )
    return replace(world, environment=McpEnvironment(world.environment, connect, kept, is_shared=is_shared))


async def _tools(connection: Connection) -> tuple[ToolSpec, ...]:
    await connection.open()
    try:
        return await connection.list_tools()
    finally:
        await connection.close()
