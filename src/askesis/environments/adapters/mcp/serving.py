"""Our worlds as MCP servers: an agent of any kind plays them by calling tools."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from askesis.environments.adapters.episode import Episode
from askesis.environments.adapters.requiring import require
from askesis.environments.protocol import Done, ToolResult, Turn, World
from askesis.errors import AskesisError, EnvironmentFault, RecipeError
from askesis.trace.types import Task, ToolSpec, Verdict

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

__all__ = ["make_server"]

_PURPOSE = "an MCP server"
_BEGIN, _REPLY = "begin_episode", "reply"
_HANDLE = "episode"
_MAX_OPEN = 1000


def make_server(
    world: World,
    *,
    split: str = "train",
    on_verdict: Callable[[Task, Verdict], Awaitable[None]] | None = None,
) -> Server[Any]:
    """An MCP server of ``world``, a world for one seat, for clients of both generations.

    The protocol keeps no state, so a client holds a handle: ``begin_episode`` returns one with the first messages,
    ``reply`` says something in its episode, and every tool of the world takes it as ``episode``. A handle cannot be
    guessed and opens no other episode. What an episode earned is told to ``on_verdict`` and never to the client.

    Run it with ``mcp.server.stdio`` or ``streamable_http_app()`` of the package mcp. Raises RecipeError for a world
    whose tools are called like one of those two, or have a parameter ``episode``.
    """
    lowlevel = require("mcp.server.lowlevel", extra="mcp", purpose=_PURPOSE)
    types = require("mcp.types", extra="mcp", purpose=_PURPOSE)
    desk = _Desk(world, split, on_verdict)
    tools = [
        types.Tool(name=spec.name, description=spec.description, input_schema=dict(spec.parameters))
        for spec in desk.specs()
    ]

    async def list_tools(context: Any, params: Any) -> Any:
        return types.ListToolsResult(tools=tools)

    async def call_tool(context: Any, params: Any) -> Any:
        result = await desk.call(params.name, params.arguments or {})
        text = types.TextContent(type="text", text=result.content)
        return types.CallToolResult(content=[text], is_error=result.is_error)

    server: Server[Any] = lowlevel.Server(f"askesis-{world.name}", on_list_tools=list_tools, on_call_tool=call_tool)
    return server


class _Desk:
    """The episodes of all clients."""

    def __init__(self, world: World, split: str, on_verdict: Callable[[Task, Verdict], Awaitable[None]] | None) -> None:
        self._world, self._split, self._on_verdict = world, split, on_verdict
        self._episodes: dict[str, tuple[Episode, str]] = {}
        self._numbers = iter(range(2**31))

    def specs(self) -> list[ToolSpec]:
        """The tools, always in the same order."""
        own = [
            ToolSpec(
                name=_BEGIN,
                description="Begin an episode. Returns its handle and the first messages.",
                parameters={
                    "type": "object",
                    "properties": {"task": {"type": "integer", "minimum": 0, "description": "number of the task"}},
                },
            ),
            ToolSpec(
                name=_REPLY,
                description="Say something in an episode. Returns what is newly seen, or that it is over.",
                parameters={
                    "type": "object",
                    "properties": {_HANDLE: {"type": "string"}, "text": {"type": "string"}},
                    "required": [_HANDLE, "text"],
                },
            ),
        ]
        return [*own, *(_with_handle(spec) for spec in self._world.environment.tools())]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """What a client is told. What goes wrong is told too, and ends nothing but its own episode."""
        try:
            if name == _BEGIN:
                return await self._begin(arguments)
            handle = arguments.get(_HANDLE)
            if not isinstance(handle, str) or handle not in self._episodes:
                return _error("there is no such episode; begin one")
            episode, seat = self._episodes[handle]
            if name == _REPLY:
                return await self._reply(handle, episode, seat, arguments.get("text"))
            rest = {key: value for key, value in arguments.items() if key != _HANDLE}
            return await episode.call_tool(seat, name, json.dumps(rest))
        except AskesisError as error:
            return _error(error.what)

    async def _begin(self, arguments: Mapping[str, Any]) -> ToolResult:
        number = arguments.get("task")
        if number is None:
            number = next(self._numbers)
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            return _error("task is a whole number from 0 on")
        if len(self._episodes) >= _MAX_OPEN:
            oldest = next(iter(self._episodes))  # clients may go away without a word
            await self._end(oldest, self._episodes[oldest][0])
        episode = Episode(self._world, self._world.tasks.task(self._split, number), seed=number)
        handle = secrets.token_urlsafe(16)
        try:
            turn = await episode.begin()
            seat = _only_seat(turn)
        except BaseException:
            await episode.close()
            raise
        self._episodes[handle] = (episode, seat)
        return ToolResult(content=json.dumps({_HANDLE: handle, "messages": _messages(turn, seat)}, ensure_ascii=False))

    async def _reply(self, handle: str, episode: Episode, seat: str, text: object) -> ToolResult:
        if not isinstance(text, str):
            return _error("text is a text")
        outcome = await episode.act({seat: text})
        if isinstance(outcome, Done):
            await self._end(handle, episode)
            return ToolResult(content=json.dumps({"over": True, "messages": []}))
        seat = _only_seat(outcome)
        self._episodes[handle] = (episode, seat)
        return ToolResult(content=json.dumps({"over": False, "messages": _messages(outcome, seat)}, ensure_ascii=False))

    async def _end(self, handle: str, episode: Episode) -> None:
        del self._episodes[handle]
        try:
            if self._on_verdict is not None:
                await self._on_verdict(episode.session.task, await episode.judge())
        finally:
            await episode.close()


def _only_seat(turn: Turn) -> str:
    if len(turn.seats) != 1:
        raise EnvironmentFault("an MCP client plays worlds for one seat", got=sorted(turn.seats))
    return next(iter(turn.seats))


def _messages(turn: Turn, seat: str) -> list[dict[str, Any]]:
    return [message.to_dict() for message in turn.seats[seat]]


def _with_handle(spec: ToolSpec) -> ToolSpec:
    properties = dict(spec.parameters.get("properties", {}))
    if spec.name in (_BEGIN, _REPLY) or _HANDLE in properties:
        raise RecipeError(
            "a tool of the world cannot be served",
            where=f"tool {spec.name}",
            got=sorted(properties),
            expected=f"another name than {_BEGIN} and {_REPLY}, and no parameter {_HANDLE}",
        )
    schema = {
        **spec.parameters,
        "properties": {_HANDLE: {"type": "string"}, **properties},
        "required": [_HANDLE, *spec.parameters.get("required", [])],
    }
    return ToolSpec(name=spec.name, description=spec.description, parameters=schema)


def _error(text: str) -> ToolResult:
    return ToolResult(content=f"error: {text}", is_error=True)
