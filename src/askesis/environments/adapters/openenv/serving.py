"""Our worlds as OpenEnv servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from askesis.environments.adapters.episode import Episode
from askesis.environments.adapters.openenv.wire import RESERVED, ErrorCode, WireError
from askesis.environments.adapters.requiring import require
from askesis.environments.protocol import Done, Turn, World
from askesis.errors import AskesisError, EnvironmentFault, RecipeError
from askesis.trace.types import StopReason

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

__all__ = ["make_app", "serve"]

_PURPOSE = "an OpenEnv server"
_MAX_ACTION = 1_000_000


def make_app(world: World, *, split: str = "train", max_concurrent_envs: int = 64) -> Starlette:
    """An ASGI application that plays ``world``, a world for one seat, by OpenEnv's protocol.

    ``/ws`` gives every connection an episode of its own, ``max_concurrent_envs`` at most. ``/reset``, ``/step`` and
    ``/state`` share a single one, for trying things out. A reset with seed n plays task n of ``split``, one without a
    seed the next. The action is ``{"text": reply}``; tools are listed and called as OpenEnv does. The reward comes
    with the end, and is the verdict's; a verdict that is not ok is an error and no reward.

    Raises RecipeError for a tool with a reserved name.
    """
    if reserved := sorted(RESERVED & {tool.name for tool in world.environment.tools()}):
        raise RecipeError(
            "tools with these names cannot be served: an agent must not control the episode",
            where=world.name,
            got=reserved,
            expected=f"other names than {', '.join(sorted(RESERVED))}",
        )
    applications = require("starlette.applications", extra="openenv", purpose=_PURPOSE)
    routing = require("starlette.routing", extra="openenv", purpose=_PURPOSE)
    server = _Server(world, split, max_concurrent_envs)
    routes = [
        routing.Route("/health", server.health),
        routing.Route("/metadata", server.metadata),
        routing.Route("/schema", server.schema),
        routing.Route("/state", server.state),
        routing.Route("/reset", server.reset, methods=["POST"]),
        routing.Route("/step", server.step, methods=["POST"]),
        routing.WebSocketRoute("/ws", server.socket),
    ]
    application: Starlette = applications.Starlette(routes=routes)
    return application


def serve(world: World, *, host: str = "127.0.0.1", port: int = 8000, split: str = "train") -> None:
    """Serve ``world`` until interrupted."""
    uvicorn = require("uvicorn", extra="openenv", purpose=_PURPOSE)
    uvicorn.run(make_app(world, split=split), host=host, port=port, log_level="warning")


class _Server:
    """All connections."""

    def __init__(self, world: World, split: str, limit: int) -> None:
        self._world, self._split, self._limit = world, split, limit
        self._active = 0
        self._numbers = iter(range(2**31))
        self._shared = _Seat(self)

    def task_number(self, seed: object) -> int:
        if seed is None:
            return next(self._numbers)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise WireError(ErrorCode.VALIDATION_ERROR, "seed is a whole number from 0 on")
        return seed

    async def health(self, request: Request) -> Response:
        return _json({"status": "healthy"})

    async def metadata(self, request: Request) -> Response:
        return _json({"name": self._world.name, "description": f"The world {self._world.name} of Askesis."})

    async def schema(self, request: Request) -> Response:
        tools = bool(self._world.environment.tools())
        return _json({"action": _action_schema(tools), "observation": _OBSERVATION, "state": _STATE})

    async def state(self, request: Request) -> Response:
        return _json(self._shared.state())

    async def reset(self, request: Request) -> Response:
        return await self._over_http(request, "reset")

    async def step(self, request: Request) -> Response:
        return await self._over_http(request, "step")

    async def socket(self, socket: WebSocket) -> None:
        websockets = require("starlette.websockets", extra="openenv", purpose=_PURPOSE)
        await socket.accept()
        if self._active >= self._limit:
            counts = {"active_sessions": self._active, "max_sessions": self._limit}
            await socket.send_text(_error(ErrorCode.CAPACITY_REACHED, "all places are taken", **counts))
            await socket.close()
            return
        self._active += 1
        seat = _Seat(self)
        try:
            while (answer := await seat.answer(await socket.receive_text())) is not None:
                await socket.send_text(answer)
            await socket.close()
        except websockets.WebSocketDisconnect:
            pass  # the client is gone; its episode goes too
        finally:
            self._active -= 1
            await seat.close()

    async def _over_http(self, request: Request, kind: str) -> Response:
        try:
            body = json.loads(await request.body() or b"{}")
            data = body.get("action") if kind == "step" else body
            if not isinstance(data, dict):
                raise WireError(ErrorCode.VALIDATION_ERROR, "an object is wanted")
            return _json(await (self._shared.step(data) if kind == "step" else self._shared.reset(data)))
        except (ValueError, AttributeError, RecursionError) as error:
            return _json({"detail": f"Invalid JSON: {error}"}, 422)
        except WireError as error:
            return _json({"detail": str(error)}, 422 if error.code == ErrorCode.VALIDATION_ERROR else 500)

    def begin(self, number: int) -> Episode:
        return Episode(self._world, self._world.tasks.task(self._split, number), seed=number)

    def listed_tools(self) -> list[dict[str, Any]]:
        return [
            {"name": tool.name, "description": tool.description, "input_schema": dict(tool.parameters)}
            for tool in self._world.environment.tools()
        ]


class _Seat:
    """One connection: at most one episode at a time."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._episode: Episode | None = None
        self._name = ""
        self._steps = 0

    async def answer(self, raw: str) -> str | None:
        """What to send back; None: the client is done."""
        try:
            incoming = json.loads(raw)
        except (ValueError, RecursionError) as error:
            return _error(ErrorCode.INVALID_JSON, f"Invalid JSON: {error}")
        try:
            if not isinstance(incoming, dict) or not isinstance(incoming.get("data", {}), dict):
                raise WireError(ErrorCode.VALIDATION_ERROR, "a message is an object, and so is its data")
            data = incoming.get("data", {})
            match incoming.get("type"):
                case "reset":
                    return json.dumps({"type": "observation", "data": await self.reset(data)})
                case "step":
                    return json.dumps({"type": "observation", "data": await self.step(data)})
                case "state":
                    return json.dumps({"type": "state", "data": self.state()})
                case "close":
                    return None
                case kind:
                    return _error(ErrorCode.UNKNOWN_TYPE, f"Unknown message type: {str(kind)[:80]}")
        except WireError as error:
            return _error(error.code, str(error))
        except Exception as error:  # a world that fails must not take the connection with it
            text = str(error) if isinstance(error, AskesisError) else type(error).__name__
            return _error(ErrorCode.EXECUTION_ERROR, text)

    async def reset(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Begin an episode; one that goes on is given up."""
        await self.close()
        episode = self._server.begin(self._server.task_number(data.get("seed")))
        self._episode, self._steps = episode, 0
        return _observation(self._seen(await episode.begin()))

    async def step(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """An action, or a call of a tool; tools are listed even before the first reset."""
        if data.get("type") == "list_tools":
            return _observation({"tools": self._server.listed_tools()})
        if self._episode is None:
            raise WireError(ErrorCode.EXECUTION_ERROR, "call reset first")
        self._steps += 1
        if data.get("type") == "call_tool":
            return await self._call_tool(self._episode, data)
        text = data.get("text")
        if not isinstance(text, str) or len(text) > _MAX_ACTION:
            raise WireError(ErrorCode.VALIDATION_ERROR, f"text is a text of at most {_MAX_ACTION} characters")
        outcome = await self._episode.act({self._name: text})
        if isinstance(outcome, Turn):
            return _observation(self._seen(outcome))
        return await self._end(self._episode, outcome)

    def state(self) -> dict[str, Any]:
        """Name and length of the episode."""
        key = None if self._episode is None else self._episode.session.task.key
        return {"episode_id": key, "step_count": self._steps}

    async def close(self) -> None:
        """Give the episode up."""
        episode, self._episode = self._episode, None
        if episode is not None:
            await episode.close()

    async def _call_tool(self, episode: Episode, data: Mapping[str, Any]) -> dict[str, Any]:
        name, arguments = data.get("tool_name"), data.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict) or name in RESERVED:
            raise WireError(ErrorCode.VALIDATION_ERROR, "a tool_name that is not reserved, and arguments, are wanted")
        result = await episode.call_tool(self._name, name, json.dumps(arguments))
        error = {"error_type": "execution_error", "message": result.content} if result.is_error else None
        return _observation({"tool_name": name, "result": None if error else result.content, "error": error})

    async def _end(self, episode: Episode, outcome: Done) -> dict[str, Any]:
        verdict = await episode.judge()
        if verdict.reward is None:
            cause = verdict.error.message if verdict.error else verdict.status.value
            raise WireError(ErrorCode.EXECUTION_ERROR, f"the episode has no reward: {cause}")
        terminated = outcome.stop is StopReason.TERMINATED
        metadata = {"terminated": terminated, "truncated": not terminated, "reason": outcome.reason}
        return _observation({"text": ""}, reward=verdict.reward, done=True, metadata=metadata)

    def _seen(self, turn: Turn) -> dict[str, Any]:
        if len(turn.seats) != 1:
            raise EnvironmentFault("OpenEnv plays worlds for one seat", got=sorted(turn.seats))
        ((self._name, messages),) = turn.seats.items()
        return {"text": "\n\n".join(message.content for message in messages)}


def _observation(
    seen: Mapping[str, Any],
    *,
    reward: float | None = None,
    done: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {"observation": dict(seen), "reward": reward, "done": done} | ({"metadata": metadata} if metadata else {})


def _error(code: str, text: str, **details: object) -> str:
    return json.dumps({"type": "error", "data": {"message": text, "code": str(code), **details}})


def _json(value: object, status: int = 200) -> Response:
    responses = require("starlette.responses", extra="openenv", purpose=_PURPOSE)
    response: Response = responses.JSONResponse(value, status_code=status)
    return response


def _action_schema(with_tools: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {"text": {"type": "string", "description": "what the policy says"}}
    if with_tools:
        properties |= {
            "type": {"type": "string", "enum": ["list_tools", "call_tool"]},
            "tool_name": {"type": "string"},
            "arguments": {"type": "object"},
        }
    schema: dict[str, Any] = {"title": "AskesisAction", "type": "object", "properties": properties}
    return schema if with_tools else {**schema, "required": ["text"]}


_OBSERVATION = {
    "title": "AskesisObservation",
    "type": "object",
    "properties": {"text": {"type": "string", "description": "what is newly seen"}},
}
_STATE = {
    "title": "AskesisState",
    "type": "object",
    "properties": {"episode_id": {"type": ["string", "null"]}, "step_count": {"type": "integer", "minimum": 0}},
}
