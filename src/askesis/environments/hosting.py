"""A world whose environment and evaluator live in other processes: what crashes or blocks there costs its own sessions.

A *host* opens the world and serves its calls; a *crew* is the hosts of one player, each with its share of the sessions.
A host that is gone is replaced. Its sessions fail with the cause: what the environment knew of them went with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from askesis.agents.tools import ToolResult
from askesis.environments.protocol import Capabilities, Done, Environment, Evaluator, Turn, World
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.tree import Trace
from askesis.trace.types import Message, Task, ToolCall, ToolSpec, Verdict

__all__ = ["Crew", "EnvironmentHost", "HostGone", "HostedEnvironment", "HostedEvaluator", "Hosts", "hosted"]

_TRIES = 3
_PAUSE_S = 30.0
_NOTES = 100


class HostGone(EnvironmentFault):
    """The process that held an environment has ended, or does not answer."""


class EnvironmentHost:
    """Holds a world and serves its calls. ``open_world`` makes the world, in this process."""

    def __init__(self, open_world: Callable[[], World]) -> None:
        self._world = open_world()

    async def alive(self) -> bool:
        """A sign of life."""
        return True

    async def reset(self, session: Session) -> Turn:
        """See :class:`askesis.environments.Environment`; so are the others."""
        return await self._world.environment.reset(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """One step."""
        return await self._world.environment.step(session, acts)

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """One tool."""
        return await self._world.environment.call_tool(session, seat, call)

    async def close(self, session: Session) -> None:
        """Free what the session holds."""
        await self._world.environment.close(session)

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """See :class:`askesis.environments.Evaluator`."""
        return await self._world.evaluator.score(trace, task)


class Hosts(Protocol):
    """Processes with one :class:`EnvironmentHost` each, in places 0 to ``size`` - 1."""

    @property
    def size(self) -> int:
        """How many places there are."""
        ...

    async def start(self, place: int) -> None:
        """Put a new host into a place, ending the one that was there. Raises HostGone when it does not come up."""
        ...

    async def call(self, place: int, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """Call a method of the host. Raises HostGone, or what the method raised."""
        ...

    async def close(self) -> None:
        """End the hosts."""
        ...


@dataclass(slots=True, eq=False)
class _Host:
    place: int
    sessions: int = 0
    gone: str = ""
    """Why it is gone; empty while it is there."""


class Crew:
    """The hosts of one player: who has which session, and who takes a lost one's place. For one event loop.

    Args:
        hosts: the processes.
        sign_s: within which a host that let a deadline pass must give a sign of life, seconds.
    """

    def __init__(self, hosts: Hosts, *, sign_s: float = 30.0) -> None:
        self._hosts, self._sign_s = hosts, sign_s
        self._ready: dict[int, _Host] = {}
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._looking: set[asyncio.Task[None]] = set()
        self._placed: dict[str, _Host] = {}
        self._failure: EnvironmentFault | None = None
        self._begun = False
        self._notes: list[str] = []
        self.lost = 0
        """Hosts that were lost so far."""

    async def start(self) -> None:
        """Have hosts: all of them at the first call, at least one at later ones. EnvironmentFault if there is none."""
        if not self._begun:
            self._begun = True
            for place in range(self._hosts.size):
                self._begin(place)
            while self._starting and self._failure is None:
                await self._news()
        while not self._ready or self._failure is not None:
            if self._failure is not None:
                raise self._failure
            await self._news()

    async def _news(self) -> None:
        await asyncio.wait(self._starting.values(), return_when=asyncio.FIRST_COMPLETED)

    async def open(self, session: Session) -> Turn:
        """Give the session to the host with the fewest, and reset it there."""
        await self.start()
        host = min(self._ready.values(), key=lambda h: (h.sessions, h.place))
        host.sessions += 1
        self._placed[session.id] = host
        turn: Turn = await self._call(host, "reset", session)
        return turn

    async def ask(self, session: Session, method: str, *arguments: Any) -> Any:
        """Call the host that has the session."""
        host = self._placed.get(session.id)
        if host is None:
            raise EnvironmentFault("the session is not open", where=f"session {session.id}")
        return await self._call(host, method, session, *arguments)

    async def close_session(self, session: Session) -> None:
        """Close it where it is; a host that is gone holds nothing any more."""
        host = self._placed.pop(session.id, None)
        if host is None:
            return
        host.sessions -= 1
        if not host.gone:
            await self._call(host, "close", session)

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """By the host that has the fewest sessions."""
        await self.start()
        host = min(self._ready.values(), key=lambda h: (h.sessions, h.place))
        host.sessions += 1
        try:
            verdict: Verdict = await self._call(host, "score", trace, task)
        finally:
            host.sessions -= 1
        return verdict

    def take_notes(self) -> tuple[str, ...]:
        """What happened to hosts since this was asked last."""
        notes, self._notes = tuple(self._notes), []
        return notes

    async def close(self) -> None:
        """End the hosts."""
        tasks = [*self._starting.values(), *self._looking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._hosts.close()

    async def _call(self, host: _Host, method: str, *arguments: Any) -> Any:
        if host.gone:
            raise HostGone("the environment worker that held this session is gone", got=host.gone)
        try:
            return await self._hosts.call(host.place, method, *arguments)
        except HostGone as error:
            self._lose(host, str(error.got or error.what))
            raise
        except asyncio.CancelledError:  # perhaps a deadline that it let pass
            look = asyncio.create_task(self._look(host))
            self._looking.add(look)
            look.add_done_callback(self._looking.discard)
            raise

    async def _look(self, host: _Host) -> None:
        """A host whose loop is blocked serves nobody: it is replaced."""
        if host.gone:
            return
        try:
            await self._hosts.call(host.place, "alive", timeout_s=self._sign_s)
        except HostGone as error:
            self._lose(host, str(error.got or error.what))

    def _lose(self, host: _Host, cause: str) -> None:
        if host.gone:
            return
        host.gone = cause or "it ended"
        self.lost += 1
        del self._ready[host.place]
        self._note(f"environment worker {host.place} was lost with {host.sessions} sessions and is replaced: {cause}")
        self._begin(host.place)

    def _begin(self, place: int) -> None:
        self._starting[place] = asyncio.create_task(self._start(place))

    async def _start(self, place: int) -> None:
        for number in range(1, 1 << 62):
            try:
                await self._hosts.start(place)
                break
            except HostGone as error:
                self._note(f"environment worker {place} was lost while it started: {error.got}")
                if number >= _TRIES and not self._ready:
                    self._failure = EnvironmentFault(
                        f"no environment worker comes up, {_TRIES} in a row were lost while they started",
                        where=f"environment worker {place}",
                        got=error.got,
                        next_step="look at Ray's logs and `ray status`",
                    )
                    del self._starting[place]
                    return
                await asyncio.sleep(min(2.0 ** (number - 1), _PAUSE_S))
            except Exception as error:  # the world cannot be opened there: whoever waits must be told
                self._failure = _unopened(place, error)
                del self._starting[place]
                return
        del self._starting[place]
        self._ready[place] = _Host(place)

    def _note(self, text: str) -> None:
        self._notes = [*self._notes, text][-_NOTES:]


def _unopened(place: int, error: Exception) -> EnvironmentFault:
    return EnvironmentFault(
        "an environment worker cannot open the world",
        where=f"environment worker {place}",
        got=f"{type(error).__name__}: {error}",
        next_step="its packages and files must be on every machine of the cluster",
    )


@dataclass(frozen=True)
class HostedEnvironment:
    """An environment whose sessions live with a crew. ``inner`` says what it promises and offers, and plays nothing."""

    inner: Environment
    crew: Crew

    @property
    def capabilities(self) -> Capabilities:
        """Those of the environment that the hosts hold."""
        return self.inner.capabilities

    async def reset(self, session: Session) -> Turn:
        """See :class:`askesis.environments.Environment`; so are the others."""
        return await self.crew.open(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """One step."""
        turn: Turn | Done = await self.crew.ask(session, "step", acts)
        return turn

    def tools(self) -> tuple[ToolSpec, ...]:
        """Known without a host."""
        return self.inner.tools()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """One tool."""
        result: ToolResult = await self.crew.ask(session, "call_tool", seat, call)
        return result

    async def close(self, session: Session) -> None:
        """Free what the session holds."""
        await self.crew.close_session(session)


@dataclass(frozen=True)
class HostedEvaluator:
    """An evaluator that a crew holds."""

    inner: Evaluator
    crew: Crew

    @property
    def version(self) -> str:
        """Known without a host."""
        return self.inner.version

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """See :class:`askesis.environments.Evaluator`."""
        return await self.crew.score(trace, task)


def hosted(world: World, crew: Crew) -> World:
    """``world`` with its environment and its evaluator played by ``crew``, whose hosts have opened the same one."""
    return replace(
        world,
        environment=HostedEnvironment(world.environment, crew),
        evaluator=HostedEvaluator(world.evaluator, crew),
    )
