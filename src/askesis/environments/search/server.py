"""A small retrieval service in the form that the search-agent papers share, over any retriever.

``python -m askesis.environments.search.server CORPUS.jsonl [--port N]``
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from askesis.environments.search.corpus import Hit, read_jsonl_corpus
from askesis.environments.search.retrievers import RETRIEVERS, Retriever, make_retriever
from askesis.errors import AskesisError, EnvironmentFault, MissingExtra

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["MAX_BYTES", "MAX_QUERIES", "MAX_TOP_K", "main", "retrieval_app"]

MAX_BYTES = 4 << 20
"""Of a request."""
MAX_QUERIES = 1024
MAX_TOP_K = 100
_DEFAULT_TOP_K = 3


def retrieval_app(retriever: Retriever) -> Starlette:
    """``POST /retrieve`` and ``GET /health``.

    A request that is too large is answered with 413, one of another form with 400, a retriever that fails with 503.
    """
    try:
        from starlette.applications import Starlette
        from starlette.responses import JSONResponse
        from starlette.routing import Route
    except ImportError as error:
        raise MissingExtra("starlette", "serve", "the retrieval service") from error

    async def retrieve(request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BYTES:
                return JSONResponse({"error": f"a request holds at most {MAX_BYTES} bytes"}, status_code=413)
        try:
            queries, top_k, with_scores = _asked(json.loads(bytes(body)))
        except (ValueError, RecursionError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        try:
            found = await retriever.search(queries, top_k)
        except EnvironmentFault as error:
            return JSONResponse({"error": str(error)}, status_code=503)
        return JSONResponse({"result": [[_entry(hit, with_scores=with_scores) for hit in hits] for hits in found]})

    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(routes=[Route("/retrieve", retrieve, methods=["POST"]), Route("/health", health)])


def _asked(request: Any) -> tuple[list[str], int, bool]:
    """Queries, how many hits each, and whether scores are wanted. ValueError says what is wrong."""
    if not isinstance(request, dict):
        raise ValueError("the request is not an object")
    queries, top_k = request.get("queries"), request.get("topk")
    if not isinstance(queries, list) or not all(isinstance(query, str) for query in queries):
        raise ValueError('"queries" is not a list of texts')
    if len(queries) > MAX_QUERIES:
        raise ValueError(f"at most {MAX_QUERIES} queries")
    if top_k is None:
        top_k = _DEFAULT_TOP_K
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= MAX_TOP_K:
        raise ValueError(f'"topk" is not a whole number from 1 to {MAX_TOP_K}')
    return queries, top_k, bool(request.get("return_scores", False))


def _entry(hit: Hit, *, with_scores: bool) -> dict[str, Any]:
    document = {"id": hit.passage.id, "contents": hit.passage.contents}
    return {"document": document, "score": hit.score} if with_scores else document


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve a JSONL corpus on the loopback interface."""
    parser = argparse.ArgumentParser(description="Serve a corpus to search agents.")
    parser.add_argument("corpus", type=Path, help="one JSON object a line: id and contents")
    parser.add_argument("--retriever", choices=[name for name in RETRIEVERS if name != "http"], default="bm25")
    parser.add_argument("--encoder", default="", help="model of the dense retriever")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args(arguments)
    try:
        retriever = make_retriever(given.retriever, read_jsonl_corpus(given.corpus), encoder=given.encoder)
        app = retrieval_app(retriever)
        try:
            import uvicorn
        except ImportError as error:
            raise MissingExtra("uvicorn", "serve", "the retrieval service") from error
    except AskesisError as error:
        parser.exit(1, f"{type(error).__name__}: {error}\n")
    uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
