"""Worlds that take their time: any world, with waits of log-normal length before it answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace

from askesis.environments.protocol import Capabilities, Done, Environment, ToolResult, Turn, World
from askesis.gateway.session import Session
from askesis.streams import generator
from askesis.trace.types import Message, ToolCall, ToolSpec

__all__ = ["SlowEnvironment", "with_latency"]


class SlowEnvironment:
    """Waits before each step. How long follows from ``seed``, the session's id and the number of the step.

    The logarithm of a wait is normal with standard deviation ``sigma``; the mean wait is ``mean_s`` seconds of the
    event loop, so the median is ``mean_s * exp(-sigma**2 / 2)``.
    """

    def __init__(self, inner: Environment, *, mean_s: float, sigma: float = 1.0, seed: int = 0) -> None:
        self.inner, self.mean_s, self.sigma, self.seed = inner, mean_s, sigma, seed
        self._steps: dict[str, int] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Those of the environment inside."""
        return self.inner.capabilities

    def wait_s(self, session: Session, step: int) -> float:
        """How long step ``step`` (from 0) of a session takes, seconds."""
        drawn = generator(self.seed, "latency", session.id, step).standard_normal()
        return float(self.mean_s * math.exp(self.sigma * drawn - self.sigma**2 / 2))

    async def reset(self, session: Session) -> Turn:
        """As inside, at once."""
        return await self.inner.reset(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """As inside, later."""
        number = self._steps.get(session.id, 0)
        self._steps[session.id] = number + 1
        await asyncio.sleep(self.wait_s(session, number))
        return await self.inner.step(session, acts)

    def tools(self) -> tuple[ToolSpec, ...]:
        """As inside."""
        return self.inner.tools()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """As inside, at once."""
        return await self.inner.call_tool(session, seat, call)

    async def close(self, session: Session) -> None:
        """As inside, at once."""
        self._steps.pop(session.id, None)
        await self.inner.close(session)


def with_latency(world: World, *, mean_s: float, sigma: float = 1.0, seed: int = 0) -> World:
    """``world`` with a :class:`SlowEnvironment` around its environment."""
    slow = SlowEnvironment(world.environment, mean_s=mean_s, sigma=sigma, seed=seed)
    return replace(world, environment=slow)
