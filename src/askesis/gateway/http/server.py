"""The server itself: uvicorn on the loop that is running, with sessions that come and go."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Self

from askesis.errors import AskesisError, MissingExtra
from askesis.gateway.gateway import Endpoint, Gateway
from askesis.gateway.http.door import Door, SamplingRule, Terms

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from askesis.gateway.http.app import SessionDoor

__all__ = ["Access", "GatewayServer", "is_loopback", "require_serving"]

_MAX_BODY_BYTES = 4 << 20
_MAX_OPEN = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client needs to speak for one session: where, with which key, under which model name."""

    base_url: str
    api_key: str
    model: str
    door: Door


class GatewayServer:
    """An OpenAI-compatible server in front of a gateway; an asynchronous context manager.

    Args:
        gateway: answers.
        host: address to listen on; loopback unless somebody decides otherwise.
        port: 0 takes a free one.
        terms: of the plain endpoint ``/v1/chat/completions``; None: there is none.
        open_endpoint: opens an endpoint for one request to it, given the seed that the client sent, if it sent one:
            with a seed, every session must have the same root of randomness, without one a root of its own. Needed with
            ``terms``.
        token: secret of the plain endpoint. Required beyond loopback.
        max_body_bytes: a longer request gets 413.

    Raises:
        MissingExtra: Starlette, uvicorn or prometheus-client is not installed.
        AskesisError: the address cannot be used, or is reachable from outside without a token.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        terms: Terms | None = None,
        open_endpoint: Callable[[int | None], Endpoint] | None = None,
        token: str | None = None,
        max_body_bytes: int = _MAX_BODY_BYTES,
    ) -> None:
        if terms is not None and token is None and not is_loopback(host):
            raise AskesisError(
                "a server that others can reach needs a token",
                where=host,
                next_step="give a token, or listen on 127.0.0.1",
            )
        self._gateway = gateway
        self._host, self._port = host, port
        self._terms, self._open_endpoint, self._token = terms, open_endpoint, token
        self._max_body_bytes = max_body_bytes
        self._sessions: dict[str, SessionDoor] = {}
        self._serving = AsyncExitStack()
        self.base_url = ""
        """Of the plain endpoint, once the server runs."""

    async def __aenter__(self) -> Self:
        require_serving()
        from askesis.gateway.http.listening import serve

        url = await self._serving.enter_async_context(serve(self._app(), self._host, self._port))
        self.base_url = f"{url}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._sessions):
            self._close(name)
        await self._serving.aclose()

    @contextmanager
    def session(
        self, endpoint: Endpoint, *, model: str, rule: SamplingRule = SamplingRule.REFUSE
    ) -> Generator[Access, None, None]:
        """Let a client with the key speak through ``endpoint`` in this block; afterwards its calls get 404."""
        from askesis.gateway.http.app import SessionDoor

        name, secret = secrets.token_hex(8), secrets.token_urlsafe(24)
        door = Door(endpoint, Terms(model=model, sampling=self._gateway.sampling, rule=rule))
        self._sessions[name] = SessionDoor(door=door, secret=secret)
        try:
            yield Access(base_url=f"{self.base_url}/sessions/{name}", api_key=secret, model=model, door=door)
        finally:
            self._close(name)

    def _close(self, name: str) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            session.ledger.close()

    def _app(self) -> Starlette:
        from askesis.gateway.http.app import Public, make_app
        from askesis.gateway.http.metrics import Metrics

        public = None
        if self._terms is not None and self._open_endpoint is not None:
            terms, open_endpoint = self._terms, self._open_endpoint
            public = Public(open_door=lambda seed: Door(open_endpoint(seed), terms), terms=terms, token=self._token)
        return make_app(
            self._gateway,
            self._sessions,
            public=public,
            metrics=Metrics(),
            max_body_bytes=self._max_body_bytes,
            max_open=_MAX_OPEN,
        )


def require_serving() -> None:
    """Raise MissingExtra unless the packages of the extra ``serve`` are installed; loads none of them."""
    for package in ("starlette", "uvicorn", "prometheus_client"):
        if find_spec(package) is None:
            raise MissingExtra(package, "serve", "serving a policy over HTTP")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
