"""Stand-ins for tests: a scripted policy, a tiny world, and an environment and an evaluator that fail on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import cast

from askesis.environments.protocol import (
    SEAT,
    Capabilities,
    Done,
    Environment,
    Evaluator,
    ToolResult,
    Turn,
    World,
)
from askesis.errors import EnvironmentFault, RecipeError
from askesis.gateway.session import Session
from askesis.streams import generator
from askesis.trace.tree import Trace
from askesis.trace.types import Message, Task, ToolCall, ToolSpec, Verdict, VerdictStatus

__all__ = [
    "HANG_SECONDS",
    "EchoEnvironment",
    "EchoEvaluator",
    "EchoTasks",
    "Fault",
    "FlakyEnvironment",
    "FlakyEvaluator",
    "ScriptedPolicy",
    "make_echo_world",
]

HANG_SECONDS = 86_400.0
"""How long something hangs that hangs on purpose: longer than any deadline."""


@dataclass(frozen=True)
class ScriptedPolicy:
    """A policy that says what it is told to.

    The n-th text of a script is its n-th reply (the last one again and again); a function is given the messages so far.
    It keeps no state, so one object can play many sessions.
    """

    script: Sequence[str] | Callable[[Sequence[Message]], str]

    async def __call__(self, messages: Sequence[Message]) -> str:
        """The next reply to a conversation."""
        if callable(self.script):
            return self.script(messages)
        spoken = sum(message.role == "assistant" for message in messages)
        return self.script[min(spoken, len(self.script) - 1)]


class EchoEnvironment:
    """Says a word per turn and wants it back; over after the last word. Its tool ``reverse`` turns a text round."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    async def reset(self, session: Session) -> Turn:
        """The rule and the first word."""
        self._said[session.id] = 0
        return self._say(session, Message(role="system", content="Repeat each word."))

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """The next word, or the end."""
        if session.id not in self._said:
            raise EnvironmentFault("a step in a session that is not open", where=f"session {session.id}")
        self._said[session.id] += 1
        if self._said[session.id] < len(session.task.payload["words"]):
            return self._say(session)
        return Done.terminated({"turns": self._said.pop(session.id)})

    def tools(self) -> tuple[ToolSpec, ...]:
        """One tool."""
        parameters = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        return (ToolSpec(name="reverse", description="Turn a text round.", parameters=parameters),)

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """The arguments' characters in reverse order."""
        if call.name != "reverse":
            return ToolResult(content=f"there is no tool called {call.name!r}", is_error=True)
        return ToolResult(content=call.arguments[::-1])

    async def close(self, session: Session) -> None:
        """Forget the session."""
        self._said.pop(session.id, None)

    def _say(self, session: Session, *before: Message) -> Turn:
        word = session.task.payload["words"][self._said[session.id]]
        return Turn(seats={SEAT: (*before, Message(role="user", content=word))})


class EchoEvaluator:
    """Rewards the share of words that came back, each where it belongs."""

    version = "echo/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict; never raises."""
        words = task.payload["words"]
        replies = [call.reply.content.strip() for call in trace.calls if call.reply is not None]
        right = sum(word == reply for word, reply in zip(words, replies, strict=False))
        share = right / len(words)
        return Verdict(
            status=VerdictStatus.OK,
            evaluator=self.version,
            rewards={"echo": (share, 1.0)},
            completed=right == len(words),
        )


@dataclass(frozen=True)
class EchoTasks:
    """Endless tasks of ``turns`` words. Training words begin with t, held-out ones with h."""

    turns: int = 2
    seed: int = 0

    def task(self, split: str, index: int) -> Task:
        """Task ``index`` of ``train`` or ``held_out``."""
        if split not in ("train", "held_out"):
            raise RecipeError("unknown split", where="EchoTasks", got=split, expected="train or held_out")
        letters = generator(self.seed, "echo", split, index).integers(ord("a"), ord("z") + 1, size=(self.turns, 3))
        words = [f"{split[0]}{''.join(map(chr, row))}{index}" for row in letters]
        return Task(key=f"echo/{split}/{index}", environment="echo", payload={"words": words}, split=split)

    def num_tasks(self, split: str) -> int | None:
        """None: there is no end to them."""
        return None

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n``; no two are alike."""
        return [self.task(split, index) for index in range(n)]


def make_echo_world(*, turns: int = 2, seed: int = 0) -> World:
    """A world that needs nothing: deterministic, several turns, one tool."""
    return World(
        name="echo", environment=EchoEnvironment(), evaluator=EchoEvaluator(), tasks=EchoTasks(turns=turns, seed=seed)
    )


class Fault(StrEnum):
    """A way to fail. HANG, RAISE and GARBAGE happen in ``step`` or ``score``; NAN only in ``score``."""

    HANG = "hang"
    RAISE = "raise"
    GARBAGE = "garbage"
    NAN = "nan"
    CRASH_RESET = "crash_reset"
    CRASH_CLOSE = "crash_close"


def _drawn(seed: int, rates: Mapping[Fault, float], *names: str) -> frozenset[Fault]:
    return frozenset(f for f, rate in rates.items() if generator(seed, "fault", f.value, *names).random() < rate)


@dataclass(frozen=True)
class FlakyEnvironment:
    """Fails in some sessions: ``rates`` gives each fault's share of them; ``seed`` and the session's id decide
    which.
    """

    inner: Environment
    rates: Mapping[Fault, float]
    seed: int = 0

    @property
    def capabilities(self) -> Capabilities:
        """Those of the environment inside."""
        return self.inner.capabilities

    def faults(self, session: Session) -> frozenset[Fault]:
        """What goes wrong in this session."""
        return _drawn(self.seed, self.rates, session.id)

    async def reset(self, session: Session) -> Turn:
        """As inside, or CRASH_RESET."""
        if Fault.CRASH_RESET in self.faults(session):
            raise RuntimeError("the flaky environment crashed in reset")
        return await self.inner.reset(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """As inside, or RAISE, HANG or GARBAGE."""
        faults = self.faults(session)
        if Fault.RAISE in faults:
            raise RuntimeError("the flaky environment raised in step")
        if Fault.HANG in faults:
            await asyncio.sleep(HANG_SECONDS)
        if Fault.GARBAGE in faults:
            return Turn(seats={SEAT: cast("tuple[Message, ...]", (b"not a message", None))})
        return await self.inner.step(session, acts)

    def tools(self) -> tuple[ToolSpec, ...]:
        """As inside."""
        return self.inner.tools()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """As inside."""
        return await self.inner.call_tool(session, seat, call)

    async def close(self, session: Session) -> None:
        """As inside; then perhaps CRASH_CLOSE."""
        await self.inner.close(session)
        if Fault.CRASH_CLOSE in self.faults(session):
            raise RuntimeError("the flaky environment crashed in close")


@dataclass(frozen=True)
class FlakyEvaluator:
    """Fails on some traces. Which ones depends only on ``seed``, the task and the sampled tokens."""

    inner: Evaluator
    rates: Mapping[Fault, float]
    seed: int = 0
    version: str = field(default="flaky/1", init=False)

    def faults(self, trace: Trace, task: Task) -> frozenset[Fault]:
        """What goes wrong with this trace."""
        sampled = hashlib.sha256(b"".join(call.sampled.tobytes() for call in trace.calls)).hexdigest()
        return _drawn(self.seed, self.rates, task.key, sampled)

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """As inside, or RAISE, HANG, GARBAGE (not a verdict) or NAN (a reward that no verdict takes: TraceError)."""
        faults = self.faults(trace, task)
        if Fault.RAISE in faults:
            raise RuntimeError("the flaky evaluator raised")
        if Fault.HANG in faults:
            await asyncio.sleep(HANG_SECONDS)
        if Fault.GARBAGE in faults:
            return cast("Verdict", {"reward": 1.0})
        if Fault.NAN in faults:
            return Verdict(status=VerdictStatus.OK, evaluator=self.version, rewards={"nan": (math.nan, 1.0)})
        return await self.inner.score(trace, task)
