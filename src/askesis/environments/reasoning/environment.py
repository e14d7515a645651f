"""One question, one answer."""

from __future__ import annotations

from collections.abc import Mapping

from askesis.environments.protocol import SEAT, Capabilities, Done, ToolResult, Turn
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import Message, ToolCall, ToolSpec

__all__ = ["DEFAULT_INSTRUCTION", "QuestionEnvironment"]

DEFAULT_INSTRUCTION = (
    "Think about the problem inside <think> and </think>. "
    "Then give only the final answer inside <answer> and </answer>, in the form that the problem asks for."
)


class QuestionEnvironment:
    """Shows ``task.payload["question"]``, below ``instruction`` unless that is empty, and ends with the first reply."""

    capabilities = Capabilities()

    def __init__(self, instruction: str = DEFAULT_INSTRUCTION) -> None:
        self._opening = (Message(role="system", content=instruction),) if instruction else ()
        self._open: set[str] = set()

    async def reset(self, session: Session) -> Turn:
        """The instruction and the question."""
        self._open.add(session.id)
        return Turn(seats={SEAT: (*self._opening, Message(role="user", content=session.task.payload["question"]))})

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """Always the end."""
        if session.id not in self._open:
            raise EnvironmentFault(
                "a step in a session that is not open",
                where=f"session {session.id}",
                expected="reset once, then one step",
                next_step="do not step after Done",
            )
        self._open.remove(session.id)
        return Done.terminated()

    def tools(self) -> tuple[ToolSpec, ...]:
        """None."""
        return ()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """An error result: there are no tools."""
        return ToolResult(content=f"there is no tool called {call.name!r}", is_error=True)

    async def close(self, session: Session) -> None:
        """Forget the session."""
        self._open.discard(session.id)
