"""The loop around a policy: context, calls of tools, budgets. One :class:`Agent` plays one seat of one session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from askesis.agents.bounds import ContextBound
from askesis.agents.context import CompactMemory, Context, FullContext
from askesis.agents.formats import Act, Format, Observation, ParsedCall
from askesis.agents.tools import ToolResult
from askesis.gateway.gateway import Endpoint, Reply
from askesis.trace.types import Message, StopReason, ToolCall, ToolSpec

__all__ = ["Agent", "End", "Harness", "Limits", "ToolCaller"]

ToolCaller = Callable[[ToolCall], Awaitable[ToolResult]]
"""Runs a tool. What it raises fails the session: errors that the policy is to see are results."""

_NOTED = 200  # characters of a call that its event keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an agent may spend on tools, beside the session's own budgets of turns, tokens and seconds."""

    tool_calls: int = 4
    """Per session."""
    calls_per_reply: int = 4
    """Further calls in one reply are not run, and the policy is told so."""
    answers_at_cap: bool = True
    """After the last call the policy may speak once more, to answer (Search-R1). False ends the session (MemSearcher).
    """
    result_tokens: int = 500
    """Of one tool's result; the rest is cut off."""
    memory_tokens: int = 1024
    """A longer memory ends the session."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The harness ended the session; the world is not told what was said last."""

    stop: StopReason
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """How policies are led. One object serves all sessions.

    Without a ``format`` no tool is ever called: each reply goes to the world as it is.
    """

    format: Format | None = None
    context: Callable[[], Context] = FullContext
    limits: Limits = Limits()
    tools: tuple[ToolSpec, ...] = ()
    instruction: str = ""
    """Put before the first messages, as a system message; one that is there is extended."""

    def seat(self, endpoint: Endpoint, call_tool: ToolCaller, *, name: str = "agent") -> Agent:
        """The agent of one seat."""
        return Agent(self, endpoint, call_tool, name)


class Agent:
    """Plays one seat: gets what is new, speaks, calls tools, and says what the world is to be told."""

    def __init__(self, harness: Harness, endpoint: Endpoint, call_tool: ToolCaller, name: str) -> None:
        self._harness, self._endpoint, self._call_tool, self._name = harness, endpoint, call_tool, name
        self._context = harness.context()
        self._calls_left = harness.limits.tool_calls
        self._has_begun = False
        self._bound: ContextBound | None = None

    async def act(self, fresh: Sequence[Message]) -> Message | End:
        """From the world's new messages to the reply that the world is given, or the end.

        Raises:
            BudgetExhausted, ContextOverflow, EngineError: as the endpoint does.
            Exception: what the caller of tools raises.
            AskesisError: a context has outgrown its bound.
        """
        end = await self._hear(fresh)
        while end is None:
            reply = await self._speak()
            act = self._parse(reply)
            if act.is_final:
                return reply.message
            if act.calls:
                end = await self._use_tools(act)
            elif self._context.takes_hints and self._harness.format is not None:
                self._note("invalid", {})
                self._context.observe([self._harness.format.hint(self._harness.tools)])
            else:
                return reply.message
        self._note("agent_end", {"stop": end.stop.value, "reason": end.reason})
        return end

    def _parse(self, reply: Reply) -> Act:
        form, tools = self._harness.format, self._harness.tools
        if form is None or not tools:
            return Act(is_final=True)
        act = form.parse(reply.message.content, tools)
        is_cut = reply.finish == "length" and not (act.calls and form.runs_cut_replies)
        return Act(is_final=True) if is_cut else act

    async def _hear(self, fresh: Sequence[Message]) -> End | None:
        """Take the world's messages in; a compact context makes a memory of all but the first."""
        if not self._has_begun:
            self._has_begun = True
            self._context.begin(_instructed(fresh, self._harness.instruction))
            return None
        self._context.observe([Observation(message=m, text=m.content) for m in map(self._bounded, fresh)])
        return await self._remember()

    def _bounded(self, message: Message) -> Message:
        """A message of the world; in a compact context it must not break the bound."""
        if not isinstance(self._context, CompactMemory):
            return message
        return replace(message, content=self._endpoint.shorten(message.content, self._harness.limits.result_tokens))

    async def _speak(self) -> Reply:
        """One call of the policy, within the context's bound."""
        limits, wants_memory = self._harness.limits, self._context.wants_memory
        own = self._endpoint.sampling
        sampling = replace(own, max_tokens=limits.memory_tokens + _MEMORY_SPARE) if wants_memory else own
        stop = () if wants_memory or self._harness.format is None else self._harness.format.stop
        reply = await self._endpoint.chat(self._context.render(), sampling=sampling, stop=stop)
        if isinstance(self._context, CompactMemory):
            if self._bound is None:
                self._bound = ContextBound.of(reply.num_context, limits, self._endpoint, self._context)
            self._bound.check(reply.num_context, after_act=wants_memory)
        self._context.replied(reply.message)
        return reply

    async def _use_tools(self, act: Act) -> End | None:
        """Run the calls of a reply and take their results in."""
        if self._calls_left < 1:
            return End(stop=StopReason.MAX_TOOL_CALLS, reason=f"more than {self._harness.limits.tool_calls} tool calls")
        allowed = min(self._calls_left, self._harness.limits.calls_per_reply)
        run = act.calls[:allowed]
        self._calls_left -= len(run)
        # All come to an end first: which failure counts, and the order of events, must not depend on latencies.
        results = await asyncio.gather(*(self._run(call) for call in run), return_exceptions=True)
        observations = [self._observation(call, result) for call, result in zip(run, results, strict=True)]
        if len(run) < len(act.calls):
            text = f"Only the first {len(run)} of {len(act.calls)} calls were run."
            observations.append(Observation(message=Message(role="user", content=text), text=text))
        self._context.observe(observations)
        end = await self._remember()
        if end is None and self._calls_left < 1 and not self._harness.limits.answers_at_cap:
            return End(stop=StopReason.MAX_TOOL_CALLS, reason="no tool call is left")
        return end

    async def _remember(self) -> End | None:
        """Have the policy write its memory, where the context wants one."""
        if not self._context.wants_memory:
            return None
        reply = await self._speak()
        if reply.finish == "length":
            return End(stop=StopReason.MALFORMED, reason="the memory was cut off")
        memory = self._context.remember(reply.message.content)
        if memory is None:
            return End(stop=StopReason.MALFORMED, reason="no memory was written")
        size = self._endpoint.count_tokens(memory)
        if size > self._harness.limits.memory_tokens:
            return End(stop=StopReason.MALFORMED, reason=f"a memory of {size} tokens")
        self._note("memory", {"tokens": size})
        return None

    async def _run(self, parsed: ParsedCall) -> ToolResult:
        if parsed.call is None:
            return ToolResult(content=f"error: {parsed.problem}", is_error=True)
        return await self._call_tool(parsed.call)

    def _observation(self, parsed: ParsedCall, result: ToolResult | BaseException) -> Observation:
        """What a call gave is cut to its limit before it is wrapped, so a closing tag is never lost."""
        if isinstance(result, BaseException):
            raise result
        form = self._harness.format
        assert form is not None  # only a format makes calls
        shown = _storable(self._endpoint.shorten(result.content, self._harness.limits.result_tokens))
        self._note(
            "tool_call",
            {
                "tool": parsed.call.name[:_NOTED] if parsed.call else "",
                "arguments": (parsed.call.arguments if parsed.call else parsed.text)[:_NOTED],
                "is_error": result.is_error,
                "characters": len(result.content),
                "shown": len(shown),
            },
        )
        return form.observation(parsed, shown)

    def _note(self, event: str, details: dict[str, object]) -> None:
        """An event of this seat in the trace, its texts fit for storage."""
        kept = {k: _storable(v) if isinstance(v, str) else v for k, v in details.items()}
        self._endpoint.note({"event": event, "seat": self._name, **kept})


_MEMORY_SPARE = 64
"""Tokens that a call for a memory may take beyond the memory itself: tags, and a few words before them."""


def _storable(text: str) -> str:
    """Half characters of UTF-16, which no file can hold, become question marks."""
    return text.encode("utf-8", "replace").decode()


def _instructed(messages: Sequence[Message], instruction: str) -> list[Message]:
    if not instruction:
        return list(messages)
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{messages[0].content}\n\n{instruction}"), *messages[1:]]
    return [Message(role="system", content=instruction), *messages]
