"""The seam between the search world and whatever finds passages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from askesis.environments.search.corpus import Hit

__all__ = ["Retriever"]


class Retriever(Protocol):
    """Finds passages for queries."""

    @property
    def is_deterministic(self) -> bool:
        """The same queries always bring the same hits."""
        ...

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """At most ``k`` hits for each query, best first, ties in the order of the corpus; fewer when fewer fit.

        Raises EnvironmentFault when the retriever cannot answer; never because of what a query says.
        """
        ...
