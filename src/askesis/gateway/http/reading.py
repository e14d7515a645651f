"""What a request carries besides its question: a body within bounds, a secret, marks of a retry, a client who waits."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from askesis.gateway.http.ledger import Marks, digest_of
from askesis.gateway.http.refusal import Refusal

__all__ = ["check_token", "marks_of", "read_body", "unless_gone"]

T = TypeVar("T")

_DRAINED_TIMES = 16
"""A body that is too long is read and thrown away up to this many times the limit, so that the client sees why."""


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` while the client listens. Raises ClientDisconnect when it has gone; the work is cancelled."""
    call, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({call, gone}, return_when=asyncio.FIRST_COMPLETED)
        if call.done():
            return call.result()
        raise ClientDisconnect
    finally:
        for task in (call, gone):
            task.cancel()
        await asyncio.gather(call, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def read_body(request: Request, *, limit: int) -> bytes:
    """The request's body. Raises Refusal when it is too long or not JSON by its own word."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    told = request.headers.get("content-length", "0")
    if told.isdigit() and int(told) > _DRAINED_TIMES * limit:
        raise _too_long(limit)
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= limit:
            parts.append(part)
        elif size > _DRAINED_TIMES * limit:
            break
    if size > limit:
        raise _too_long(limit)
    # Another type would let any web page send requests to a server on this machine without asking.
    if kind != "application/json":
        raise Refusal(415, "unsupported_media_type", "the content type must be application/json")
    return b"".join(parts)


def _too_long(limit: int) -> Refusal:
    return Refusal(413, "request_too_large", f"the request is longer than {limit} bytes")


def marks_of(request: Request, body: bytes, scope: str = "") -> Marks:
    """What tells whether it repeats an earlier request; ``scope`` keeps the clients of a shared endpoint apart."""
    count = request.headers.get("x-stainless-retry-count", "")
    return Marks(
        digest=digest_of(body, scope),
        key=request.headers.get("idempotency-key"),
        retry_count=int(count) if count.isdecimal() and len(count) < 9 else None,
    )


def check_token(request: Request, token: str | None) -> None:
    """Raise Refusal unless the request carries ``token``; None lets everybody in."""
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refusal(401, "invalid_api_key", "a wrong secret, or none; send it as Authorization: Bearer SECRET")
