"""A socket, and uvicorn on it within the loop that is running."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from askesis.errors import AskesisError
from askesis.gateway.http.server import is_loopback

__all__ = ["listen", "make_server", "serve"]


class _Server(uvicorn.Server):
    """Leaves signals to the program it runs in."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one. Raises AskesisError when the address cannot be used."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol named, asyncio switches Nagle's algorithm off; it would hold each answer for 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise _unusable(host, port, error) from error
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise _unusable(host, port, error) from error
    return listener


def _unusable(host: str, port: int, error: Exception) -> AskesisError:
    return AskesisError(
        "the address cannot be used",
        where=f"{host}:{port}",
        got=str(error),
        next_step="take another port (0 finds a free one), or stop the program that has it",
    )


@asynccontextmanager
async def serve(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Serve ``app`` until the block ends; yields ``http://HOST:PORT``. AskesisError when the address cannot be used."""
    listener = listen(host, port)
    server = make_server(app, is_local=is_loopback(host))
    bound_host, bound_port = listener.getsockname()[:2]
    url = f"http://{f'[{bound_host}]' if ':' in bound_host else bound_host}:{bound_port}"
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            if serving.done():
                await serving
                raise AskesisError("the server ended before it began", where=url)
            await asyncio.sleep(0.001)
        yield url
    finally:
        server.should_exit = True
        await serving


def make_server(app: ASGIApp, *, is_local: bool) -> uvicorn.Server:
    """A server that stops when ``should_exit`` is set; ``is_local`` refuses requests in the name of another host."""
    if is_local:
        # A web page whose name was made to point at this machine still sends its own name.
        app = TrustedHostMiddleware(app, allowed_hosts=["127.0.0.1", "localhost", "::1", "[::1]"], www_redirect=False)
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    return _Server(config)
