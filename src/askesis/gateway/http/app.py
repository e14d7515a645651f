"""The routes: chat completions for everybody and per session, models, health, metrics."""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from askesis.gateway.gateway import Gateway
from askesis.gateway.http.door import Answer, Door, Terms
from askesis.gateway.http.ledger import Ledger, Marks, Recorded
from askesis.gateway.http.metrics import Metrics
from askesis.gateway.http.reading import check_token, marks_of, read_body, unless_gone
from askesis.gateway.http.refusal import CLIENT_GONE, Refusal, refusal_of
from askesis.gateway.http.replies import Envelope, completion, events
from askesis.gateway.http.wire import Asked, parse
from askesis.trace import StopReason

__all__ = ["Public", "SessionDoor", "make_app"]

_LOG = logging.getLogger("askesis.gateway.http")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    envelope: Envelope
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDoor:
    """An open session: its door, its secret, and what it was asked."""

    door: Door
    secret: str
    ledger: Ledger[_Result] = field(default_factory=lambda: Ledger(by_body=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """The plain endpoint. ``open_door`` gives each request a session of its own, by its seed; without a ``token``
    everybody may ask.
    """

    open_door: Callable[[int | None], Door]
    terms: Terms
    token: str | None
    ledger: Ledger[_Result] = field(default_factory=lambda: Ledger(by_body=False, capacity=1024))


@dataclass(kw_only=True)
class _Site:
    gateway: Gateway
    sessions: Mapping[str, SessionDoor]
    public: Public | None
    metrics: Metrics
    max_body_bytes: int
    max_open: int
    started: int = field(default_factory=lambda: int(time.time()))
    num_open: int = 0


def make_app(
    gateway: Gateway,
    sessions: Mapping[str, SessionDoor],
    *,
    public: Public | None,
    metrics: Metrics,
    max_body_bytes: int,
    max_open: int,
) -> Starlette:
    """The application.

    Args:
        gateway: whose template names tokens.
        sessions: by the id in their URLs; whoever owns the mapping opens and closes them.
        public: the plain endpoint, if there is one.
        metrics: counted here.
        max_body_bytes: a longer request gets 413.
        max_open: requests in progress beyond which the plain endpoint answers 429.
    """
    site = _Site(
        gateway=gateway,
        sessions=sessions,
        public=public,
        metrics=metrics,
        max_body_bytes=max_body_bytes,
        max_open=max_open,
    )

    def route(path: str, handler: Callable[[_Site, Request], Awaitable[Response]], method: str) -> Route:
        async def endpoint(request: Request) -> Response:
            try:
                return await handler(site, request)
            except Refusal as refusal:
                return _refused(refusal)

        return Route(path, endpoint, methods=[method])

    return Starlette(
        routes=[
            route("/v1/chat/completions", _public_chat, "POST"),
            route("/v1/sessions/{session}/chat/completions", _session_chat, "POST"),
            route("/v1/models", _public_models, "GET"),
            route("/v1/models/{model:path}", _public_model, "GET"),
            route("/v1/sessions/{session}/models", _session_models, "GET"),
            route("/health", _health, "GET"),
            route("/metrics", _metrics, "GET"),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _crashed},
    )


async def _health(site: _Site, request: Request) -> Response:
    return _Json({"status": "ok", "sessions": len(site.sessions), "open_requests": site.num_open})


async def _metrics(site: _Site, request: Request) -> Response:
    if site.public is not None:
        check_token(request, site.public.token)
    site.metrics.sessions(len(site.sessions))
    return Response(site.metrics.text(), media_type="text/plain; version=0.0.4")


async def _public_models(site: _Site, request: Request) -> Response:
    return _models(site, _public(site, request).terms)


async def _public_model(site: _Site, request: Request) -> Response:
    terms = _public(site, request).terms
    if request.path_params["model"] != terms.model:
        raise Refusal(404, "model_not_found", f"there is no such model; the one here is {terms.model!r}")
    return _Json(_model(site, terms))


async def _session_models(site: _Site, request: Request) -> Response:
    return _models(site, _session(site, request).door.terms)


def _models(site: _Site, terms: Terms) -> Response:
    return _Json({"object": "list", "data": [_model(site, terms)]})


def _model(site: _Site, terms: Terms) -> dict[str, Any]:
    return {"id": terms.model, "object": "model", "created": site.started, "owned_by": "askesis"}


async def _public_chat(site: _Site, request: Request) -> Response:
    async def serve() -> Response:
        public = _public(site, request)
        if site.num_open > site.max_open:
            raise Refusal(429, "overloaded", f"{site.max_open} requests are in progress", retry=True)
        body = await read_body(request, limit=site.max_body_bytes)
        asked = parse(body)
        marks = marks_of(request, body, scope=request.headers.get("authorization", ""))
        return await _chat(site, request, asked, marks, public.ledger, public)

    return await _counted(site, request, serve)


async def _session_chat(site: _Site, request: Request) -> Response:
    async def serve() -> Response:
        session = _session(site, request)
        body = await read_body(request, limit=site.max_body_bytes)
        asked = parse(body)
        return await _chat(site, request, asked, marks_of(request, body), session.ledger, session.door)

    return await _counted(site, request, serve)


async def _counted(site: _Site, request: Request, serve: Callable[[], Coroutine[Any, Any, Response]]) -> Response:
    """Serve a chat request and count it, whatever becomes of it."""
    began = time.perf_counter()
    site.metrics.begin()
    site.num_open += 1
    status = 500
    try:
        try:
            response = await serve()
        except ClientDisconnect:
            response = Response(status_code=CLIENT_GONE)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.status == 500:
                _LOG.warning("a request failed: %s", error)
            response = _refused(refusal)
        status = response.status_code
        return response
    finally:
        site.num_open -= 1
        site.metrics.end(status, time.perf_counter() - began)


async def _chat(
    site: _Site,
    request: Request,
    asked: Asked,
    marks: Marks,
    ledger: Ledger[_Result],
    speaker: Door | Public,
) -> Response:
    async def begin() -> _Result:
        door = speaker if isinstance(speaker, Door) else speaker.open_door(asked.seed)
        try:
            answer = await door.answer(asked)
        finally:
            if door is not speaker:
                door.endpoint.close(StopReason.TERMINATED)
        envelope = Envelope(
            id=f"chatcmpl-{secrets.token_hex(12)}",
            created=int(time.time()),
            model=door.terms.model,
            version=answer.version,
        )
        return _Result(envelope=envelope, answer=answer)

    entry, result, repeated = await unless_gone(request, ledger.answer(marks, begin))
    site.metrics.answered(
        num_context=result.answer.num_context, num_sampled=result.answer.num_sampled, repeated=repeated
    )
    headers = {"x-askesis-repeated": "true" if repeated else "false"}
    pieces = site.gateway.template.pieces
    if not asked.stream:
        return _Delivered(entry, completion(result.envelope, asked, result.answer, pieces), headers)

    async def stream() -> AsyncIterator[bytes]:
        for event in events(result.envelope, asked, result.answer, pieces):
            yield event
        entry.delivered = True

    return StreamingResponse(stream(), media_type="text/event-stream", headers={**headers, "cache-control": "no-store"})


class _Json(Response):
    """JSON in ASCII: a model's or a client's text may hold halves of surrogate pairs, which UTF-8 does not have."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


class _Delivered(_Json):
    """Remembers that its client has got it."""

    def __init__(self, entry: Recorded[_Result], content: Any, headers: Mapping[str, str]) -> None:
        super().__init__(content, headers=dict(headers))
        self._entry = entry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        self._entry.delivered = True


def _public(site: _Site, request: Request) -> Public:
    if site.public is None:
        raise Refusal(404, "not_found", "this server answers its sessions only: /v1/sessions/ID/chat/completions")
    check_token(request, site.public.token)
    return site.public


def _session(site: _Site, request: Request) -> SessionDoor:
    session = site.sessions.get(request.path_params["session"])
    if session is None:
        raise Refusal(404, "session_not_found", "there is no such session, or it has ended")
    check_token(request, session.secret)
    return session


def _refused(refusal: Refusal) -> Response:
    return _Json(refusal.body(), status_code=refusal.status, headers=refusal.headers())


async def _http_error(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    codes = {404: "not_found", 405: "method_not_allowed"}
    return _refused(Refusal(status, codes.get(status, "refused"), f"{request.method} {request.url.path} is not served"))


async def _crashed(request: Request, error: Exception) -> Response:
    return _refused(refusal_of(error))
