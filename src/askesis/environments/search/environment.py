"""A question, a tool to search with, and the end when the policy answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from askesis.environments.own import QuestionEnvironment
from askesis.environments.protocol import Capabilities, ToolResult
from askesis.environments.search.corpus import render
from askesis.environments.search.retrievers import Retriever

__all__ = ["MAX_QUERY", "SearchEnvironment"]

MAX_QUERY = 1000
"""Characters of a query that are searched for."""
_MAX_RESULTS = 10


class SearchEnvironment(QuestionEnvironment):
    """Shows ``task.payload["question"]``, below ``instruction`` unless that is empty, and ends with the first reply
    that the harness passes on. Its tool ``search`` finds passages.

    Args:
        retriever: who searches. When it is down it raises, and the session fails without a reward.
        top_k: passages per search when the policy does not say.
        instruction: system message before the harness's own.
    """

    def __init__(self, retriever: Retriever, *, top_k: int, instruction: str = "") -> None:
        super().__init__([self.search], instruction=instruction)
        self.capabilities = Capabilities(deterministic=retriever.is_deterministic)
        self._retriever = retriever
        self._top_k = top_k

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
