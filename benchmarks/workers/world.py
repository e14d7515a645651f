"""The smallest world that has several turns: it says the task's texts, one per turn, and rewards even token ids."""

from __future__ import annotations

from collections.abc import Mapping

from askesis.environments import SEAT, Capabilities, Done, ToolResult, Turn, World
from askesis.environments.fakes import EchoTasks
from askesis.gateway import Session
from askesis.trace import Message, Task, ToolCall, ToolSpec, Trace, Verdict, VerdictStatus
from benchmarks.workload import even_share

__all__ = ["SayingEnvironment", "make_world"]


class SayingEnvironment:
    """Turn n says the n-th text of the task's ``says``; it is over after the last."""

    capabilities = Capabilities()

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    async def reset(self, session: Session) -> Turn:
        """The first text."""
        self._said[session.id] = 0
        return self._say(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """The next text, or the end."""
        self._said[session.id] += 1
        if self._said[session.id] < len(session.task.payload["says"]):
            return self._say(session)
        return Done.terminated()

    def tools(self) -> tuple[ToolSpec, ...]:
        """None."""
        return ()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """There are none."""
        return ToolResult(content="there are no tools", is_error=True)

    async def close(self, session: Session) -> None:
        """Forget the session."""
        self._said.pop(session.id, None)

    def _say(self, session: Session) -> Turn:
        text = session.task.payload["says"][self._said[session.id]]
        return Turn(seats={SEAT: (Message(role="user", content=text),)})


class _EvenEvaluator:
    version = "even/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """The share of even ids among all sampled tokens."""
        ids = [int(i) for call in trace.calls for i in call.sampled]
        return Verdict(status=VerdictStatus.OK, evaluator=self.version, rewards={"even": (even_share(ids), 1.0)})


def make_world() -> World:
    """The world. Its own tasks are not used: the benchmarks bring theirs."""
    return World(name="bench", environment=SayingEnvironment(), evaluator=_EvenEvaluator(), tasks=EchoTasks())
