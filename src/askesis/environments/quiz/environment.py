"""One question after the other, each to somebody who knows nothing of the others."""

from __future__ import annotations

from collections.abc import Mapping

from askesis.environments.protocol import Capabilities, Done, ToolResult, Turn
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import Message, ToolCall, ToolSpec

__all__ = ["QuizEnvironment", "seat_of"]


def seat_of(turn: int) -> str:
    """The seat of turn number ``turn``, from 0."""
    return f"question {turn + 1}"


class QuizEnvironment:
    """Asks ``task.payload["questions"]`` in order, one a turn, each in a seat of its own: a fresh conversation.

    So a policy that was made for single questions can play it. Says nothing about right or wrong.
    """

    capabilities = Capabilities()

    def __init__(self, instruction: str = "") -> None:
        self._opening = (Message(role="system", content=instruction),) if instruction else ()
        self._asked: dict[str, int] = {}

    async def reset(self, session: Session) -> Turn:
        """The instruction and the first question."""
        self._asked[session.id] = 0
        return self._ask(session)

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """The next question, or the end after the last."""
        if session.id not in self._asked:
            raise EnvironmentFault(
                "a step in a session that is not open",
                where=f"session {session.id}",
                expected="reset once, then one step for each question",
                next_step="do not step after Done",
            )
        self._asked[session.id] += 1
        if self._asked[session.id] < len(session.task.payload["questions"]):
            return self._ask(session)
        del self._asked[session.id]
        return Done.terminated()

    def tools(self) -> tuple[ToolSpec, ...]:
        """None."""
        return ()

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """An error result: there are no tools."""
        return ToolResult(content=f"there is no tool called {call.name!r}", is_error=True)

    async def close(self, session: Session) -> None:
        """Forget the session."""
        self._asked.pop(session.id, None)

    def _ask(self, session: Session) -> Turn:
        turn = self._asked[session.id]
        question = session.task.payload["questions"][turn]["question"]
        return Turn(seats={seat_of(turn): (*self._opening, Message(role="user", content=question))})
