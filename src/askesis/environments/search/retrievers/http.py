"""A retrieval service over HTTP, in the form that the search-agent papers share: ``POST /retrieve``."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from askesis.environments.search.corpus import Hit, Passage
from askesis.errors import EnvironmentFault, MissingExtra

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpRetriever"]


class HttpRetriever:
    """Asks ``url`` (for example ``http://127.0.0.1:8000/retrieve``).

    Sends ``{"queries": [...], "topk": k, "return_scores": true}`` and expects ``{"result": [[{"document": {"id",
    "contents"}, "score"}, ...], ...]}``. A refused connection, a timeout and a status of 500 or more are tried again;
    then, and for anything else that is not an answer, EnvironmentFault.

    Args:
        url: where to ask.
        timeout_s: of each try, seconds.
        tries: in all.
        pause_s: before the second try, doubled before each further one, seconds.
        transport: of httpx, for tests.
    """

    is_deterministic = False  # nobody can promise this for a service

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        tries: int = 3,
        pause_s: float = 0.2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra("httpx", "search", "the retriever http") from error
        self._httpx = httpx
        self._url, self._timeout_s, self._tries, self._pause_s = url, timeout_s, tries, pause_s
        self._transport = transport
        # A client belongs to the event loop that it was first used on.
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """All queries in one request."""
        if not queries or k < 1:
            return [[] for _ in queries]
        sent = {
            "queries": [q.encode("utf-8", "replace").decode() for q in queries],
            "topk": k,
            "return_scores": True,
        }
        answer = await self._ask(sent)
        try:
            found = [[_hit(entry) for entry in hits[:k]] for hits in answer["result"]]
        except (KeyError, TypeError, ValueError) as error:
            raise self._fault("the retriever's answer is not of the agreed form", f"{answer!r:.200}") from error
        if len(found) != len(queries):
            raise self._fault("the retriever answered another number of queries", len(found))
        return found

    async def _ask(self, sent: dict[str, Any]) -> Any:
        problem = ""
        for attempt in range(self._tries):
            if attempt:
                await asyncio.sleep(self._pause_s * 2 ** (attempt - 1))
            try:
                response = await self._client().post(self._url, json=sent)
            except self._httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if response.status_code >= 500:
                problem = f"status {response.status_code}"
                continue
            if response.status_code != 200:
                raise self._fault("the retriever refused the request", f"status {response.status_code}")
            try:
                return response.json()
            except ValueError as error:
                raise self._fault("the retriever's answer is not JSON", response.text) from error
        raise self._fault(f"the retriever does not answer, after {self._tries} tries", problem)

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients[loop] = self._httpx.AsyncClient(
                timeout=self._timeout_s,
                transport=self._transport,
                trust_env=False,  # no address but the one that was configured
                limits=self._httpx.Limits(max_keepalive_connections=0),  # nothing is left open when a run ends
            )
        return self._clients[loop]

    def _fault(self, what: str, got: object) -> EnvironmentFault:
        return EnvironmentFault(
            what, where=self._url, got=got, next_step="start the service, or set environment.options.retriever=bm25"
        )


def _hit(entry: dict[str, Any]) -> Hit:
    document = entry["document"]
    if not isinstance(document["contents"], str):
        raise TypeError("contents is not a text")
    passage = Passage.of_contents(str(document.get("id", "")), document["contents"])
    return Hit(passage=passage, score=float(entry["score"]))
