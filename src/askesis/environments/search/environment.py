"""A question, a tool to search with, and the end when the policy answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from askesis.agents.tools import Toolbox
from askesis.environments.protocol import SEAT, Capabilities, Done, ToolResult, Turn
from askesis.environments.search.corpus import render
from askesis.environments.search.retrievers import Retriever
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import Message, ToolCall, ToolSpec

__all__ = ["MAX_QUERY", "SearchEnvironment"]

MAX_QUERY = 1000
"""Characters of a query that are searched for."""
_MAX_RESULTS = 10


class SearchEnvironment:
    """Shows ``task.payload["question"]``, below ``instruction`` unless that is empty, and ends with the first reply
    that the harness passes on. Its tool ``search`` finds passages.

    Args:
        retriever: who searches. When it is down it raises, and the session fails without a reward.
        top_k: passages per search when the policy does not say.
        instruction: system message before the harness's own.
    """

    def __init__(self, retriever: Retriever, *, top_k: int, instruction: str = "") -> None:
        self.capabilities = Capabilities(deterministic=retriever.is_deterministic)
        self._retriever = retriever
        self._top_k = top_k
        self._opening = (Message(role="system", content=instruction),) if instruction else ()
        self._open: set[str] = set()
        self._toolbox = Toolbox([self.search])

    async def search(
        self,
        query: str,
        top_n: Annotated[int | None, Field(ge=1, le=_MAX_RESULTS, description="passages to return")] = None,
    ) -> ToolResult:
        """Find passages of the collection that fit a query."""
        if not query.strip():
            return ToolResult(content="error: the query is empty", is_error=True)
        hits = (await self._retriever.search([query[:MAX_QUERY]], top_n or self._top_k))[0]
        return ToolResult(content=render(hits) or "Nothing was found.")

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
        """One: ``search``."""
        return self._toolbox.specs

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """Search."""
        return await self._toolbox.call(call)

    async def close(self, session: Session) -> None:
        """Forget the session."""
        self._open.discard(session.id)
