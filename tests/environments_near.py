"""Hosts of environments without processes, and without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from askesis.clock import SystemClock
from askesis.environments import World
from askesis.environments.fakes import make_echo_world
from askesis.environments.hosting import EnvironmentHost, HostGone
from askesis.gateway import Session
from askesis.trace import Budgets, Task


class Near:
    """Hosts in this process. ``lost`` says which calls, counted over all, find their host gone."""

    def __init__(
        self, size: int, *, world: Callable[[], World] = make_echo_world, lost: frozenset[int] = frozenset()
    ) -> None:
        self.size = size
        self.world, self.lost = world, lost
        self.hosts: dict[int, EnvironmentHost] = {}
        self.calls: list[tuple[int, str]] = []
        self.blocked: set[int] = set()
        self.starts = 0
        self.start_losses = 0
        self.closed = False

    async def start(self, place: int) -> None:
        self.starts += 1
        self.blocked.discard(place)
        await asyncio.sleep(0)
        if self.starts <= self.start_losses:
            raise HostGone("an environment worker was lost", got="no memory")
        self.hosts[place] = EnvironmentHost(self.world)

    async def call(self, place: int, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        self.calls.append((place, method))
        if place in self.blocked:
            await asyncio.sleep(86400.0 if timeout_s is None else timeout_s)
            raise HostGone("an environment worker was lost", got=f"no answer within {timeout_s} s")
        if len(self.calls) in self.lost:
            del self.hosts[place]
            raise HostGone("an environment worker was lost", got="killed by SIGKILL")
        return await getattr(self.hosts[place], method)(*arguments)

    async def close(self) -> None:
        self.closed = True


def session(number: int, words: list[str] | None = None) -> Session:
    task = Task(key=f"echo/{number}", environment="echo", payload={"words": words or ["one", "two"]})
    return Session(
        id=f"s{number}",
        task=task,
        group_id="g",
        member_index=number,
        seed=number,
        policy_version=0,
        budgets=Budgets(),
        clock=SystemClock(),
    )
