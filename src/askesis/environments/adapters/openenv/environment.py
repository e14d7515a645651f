"""An OpenEnv server as an environment: each session has a connection, and so an environment of the server's, of its
own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from askesis.environments.adapters.game import IllegalAct
from askesis.environments.adapters.openenv.acting import action_of
from askesis.environments.adapters.openenv.connection import Connection
from askesis.environments.adapters.openenv.wire import ErrorCode, Observation, WireError, observed_text
from askesis.environments.adapters.returns import payment
from askesis.environments.adapters.texts import act_text, shown
from askesis.environments.protocol import SEAT, Capabilities, Done, ToolResult, Turn
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import Message, StopReason, ToolCall, ToolSpec

__all__ = ["OpenEnvEnvironment"]


@dataclass
class _Play:
    connection: Connection
    tries: int = 0
    paid: list[float] = field(default_factory=list)
    """By tool calls since the last step."""
    is_over: bool = False
    ended: Observation | None = None
    """The observation with which a tool call ended the episode."""


class OpenEnvEnvironment:
    """Plays on a server.

    A reply is an action; where the server knows no other actions than calls of tools, it is the end. A reward that
    the server does not give is not counted, neither as zero.

    Args:
        url: of the server.
        schema: of its actions that are no calls of tools; without properties when there are none.
        tools: of the server, if it has any.
        instruction: system message; empty for none.
        retries: how often an action that the schema or the server refuses is asked for again.
    """

    capabilities = Capabilities(deterministic=False)

    def __init__(
        self, url: str, schema: Mapping[str, Any], *, tools: Sequence[ToolSpec], instruction: str, retries: int
    ) -> None:
        self._url, self._schema, self._tools, self._retries = url, schema, tuple(tools), retries
        self._opening = (Message(role="system", content=instruction),) if instruction else ()
        self._plays: dict[str, _Play] = {}

    async def reset(self, session: Session) -> Turn:
        """Connect, and begin an episode with the task's seed."""
        play = self._plays[session.id] = _Play(Connection(self._url))
        await play.connection.open()
        try:
            seen = await play.connection.reset(session.task.payload["seed"])
        except WireError as error:
            raise self._fault(error) from error
        if seen.done:
            raise EnvironmentFault("the episode was over before anybody could act", where=self._url)
        turn = self._turn(play, seen, _text(seen))
        return Turn(seats={SEAT: (*self._opening, *turn.seats[SEAT])}, info=turn.info)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """Send the action; a server with tools is not told what was said last."""
        play = self._open(session)
        if play.ended is not None:
            return self._end(play, play.ended)
        if not self._schema["properties"]:
            play.is_over = True
            return Done.terminated(self._payment(play, None))
        try:
            action = action_of(self._schema, act_text(acts[SEAT].content))
            seen = await play.connection.step(action)
        except (IllegalAct, WireError) as error:
            if isinstance(error, WireError) and error.code != ErrorCode.VALIDATION_ERROR:
                raise self._fault(error) from error
            return self._ask_again(play, str(error))
        play.tries = 0
        return self._end(play, seen) if seen.done else self._turn(play, seen, _text(seen))

    def tools(self) -> tuple[ToolSpec, ...]:
        """The server's."""
        return self._tools

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """Have the server run a tool. What it pays is kept for the next step."""
        if call.name not in {tool.name for tool in self._tools}:
            return ToolResult(content=f"there is no tool called {call.name[:80]!r}", is_error=True)
        try:
            arguments = json.loads(call.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if not isinstance(arguments, dict):
            return ToolResult(content="error: the arguments are no JSON object", is_error=True)
        play = self._open(session)
        if play.ended is not None:
            return ToolResult(content="error: the episode is over", is_error=True)
        try:
            seen = await play.connection.step({"type": "call_tool", "tool_name": call.name, "arguments": arguments})
        except WireError as error:
            if error.code != ErrorCode.VALIDATION_ERROR:
                raise self._fault(error) from error
            return ToolResult(content=shown(f"error: {error}"), is_error=True)
        if seen.done:
            play.ended = seen
        elif seen.reward is not None:
            play.paid.append(seen.reward)
        failed = seen.observation.get("error")
        result = failed or seen.observation.get("result")
        return ToolResult(content=_result_text(result), is_error=bool(failed))

    async def close(self, session: Session) -> None:
        """Disconnect."""
        play = self._plays.pop(session.id, None)
        if play is not None:
            await play.connection.close()

    def _open(self, session: Session) -> _Play:
        play = self._plays.get(session.id)
        if play is None or play.is_over:
            raise EnvironmentFault("a step in a session that is not open", where=f"session {session.id}")
        return play

    def _ask_again(self, play: _Play, complaint: str) -> Turn | Done:
        play.tries += 1
        if play.tries > self._retries:
            play.is_over = True
            reason = shown(f"no legal action in {play.tries} tries", 500)
            return Done(stop=StopReason.TERMINATED, reason=reason, info={**payment({SEAT: 0.0}, where=self._url)})
        text = f"This is no legal action: {complaint}"
        return Turn(
            seats={SEAT: (Message(role="user", content=shown(text)),)}, info=payment({SEAT: 0.0}, where=self._url)
        )

    def _turn(self, play: _Play, seen: Observation, text: str) -> Turn:
        return Turn(seats={SEAT: (Message(role="user", content=shown(text)),)}, info=self._payment(play, seen))

    def _end(self, play: _Play, seen: Observation) -> Done:
        play.is_over = True
        info = self._payment(play, seen)
        if seen.metadata.get("truncated") is True and seen.metadata.get("terminated") is not True:
            return Done.truncated(shown(str(seen.metadata.get("reason", "truncated")), 500), info)
        return Done.terminated(info)

    def _payment(self, play: _Play, seen: Observation | None) -> dict[str, Any]:
        rewards, play.paid = play.paid, []
        if seen is not None and seen.reward is not None:
            rewards = [*rewards, seen.reward]
        return payment({SEAT: sum(rewards)}, where=self._url) if rewards else {}

    def _fault(self, error: WireError) -> EnvironmentFault:
        full = error.code == ErrorCode.CAPACITY_REACHED
        return EnvironmentFault(
            "the OpenEnv server refuses",
            where=self._url,
            got=str(error),
            next_step="lower rollout.max_concurrent, or let the server take more sessions" if full else None,
        )


def _text(seen: Observation) -> str:
    return observed_text(seen.observation) or "The episode has begun."


def _result_text(result: Any) -> str:
    """A tool's result as text; those of MCP hold their texts in ``content``, errors theirs in ``message``."""
    if isinstance(result, dict):
        blocks = result.get("content")
        texts = [b["text"] for b in blocks if isinstance(b, dict) and "text" in b] if isinstance(blocks, list) else []
        result = "\n".join(map(str, texts)) if texts else result.get("message", result)
    return shown(result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str))
