"""Sockets, and names that requests come by."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from askesis.errors import AskesisError
from askesis.gateway.http.listening import listen
from http_site import Site

Serve = Callable[..., None]
ASK: dict[str, Any] = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


def test_another_hosts_name_is_refused_on_loopback(serve: Serve) -> None:
    async def check(site: Site) -> None:
        answer = await site.http.get(site.server.base_url + "/models", headers={"host": "evil.example"})
        assert answer.status_code == 400

    serve(check)


def test_a_taken_or_impossible_address_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(AskesisError, match="cannot be used") as caught:
            listen("127.0.0.1", taken.getsockname()[1])
        assert "in use" in (caught.value.got or "")
    with pytest.raises(AskesisError, match="cannot be used"):
        listen("203.0.113.7", 0)


def test_accepted_connections_are_not_held_back_by_nagle() -> None:
    with listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks at before it switches it off
