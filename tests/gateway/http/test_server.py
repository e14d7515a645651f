"""Sessions come and go; who may listen where."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.errors import AskesisError, MissingExtra
from askesis.gateway import Gateway
from askesis.gateway.http import server as server_module
from askesis.gateway.http.door import SamplingRule, Terms
from askesis.gateway.http.server import GatewayServer, is_loopback, require_serving
from askesis.policy.loading import Policy
from http_site import Site, Slow, by_seed, make_session

Serve = Callable[..., None]
ASK: dict[str, Any] = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


def test_a_session_that_ends_cancels_its_calls_and_answers_404(serve: Serve, tiny: Policy) -> None:
    engine = Slow(tiny.template, by_seed)

    async def check(site: Site) -> None:
        endpoint = site.gateway.open(make_session(99))
        with site.server.session(endpoint, model="m") as access:
            url, headers = f"{access.base_url}/chat/completions", {"authorization": f"Bearer {access.api_key}"}
            body = {**ASK, "model": "m"}
            asking = asyncio.create_task(site.http.post(url, json=body, headers=headers))
            while not engine.begun:
                await asyncio.sleep(0.005)
            assert access.door.busy_s > 0
        assert (await asking).status_code == 404
        assert engine.cancelled == 1
        assert (await site.http.post(url, json=body, headers=headers)).status_code == 404

    serve(check, engine=engine)


def test_a_token_guards_everything_but_health(serve: Serve) -> None:
    async def check(site: Site) -> None:
        await site.public.chat.completions.create(model="nano", messages=ASK["messages"])
        for path in ("/v1/models", "/metrics"):
            assert (await site.http.get(site.root + path)).status_code == 401
        denied = await site.http.post(site.server.base_url + "/chat/completions", json=ASK)
        assert denied.status_code == 401
        assert (await site.http.get(site.root + "/health")).status_code == 200

    serve(check, token="hush")


def test_who_may_listen_where(tiny: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")] == [True] * 3 + [
        False
    ] * 2
    gateway = Gateway(ScriptedEngine(tiny.template, by_seed), tiny.template, sampling=Sampling(), context_length=99)
    terms = Terms(model="m", sampling=Sampling(), rule=SamplingRule.HONOUR)
    with pytest.raises(AskesisError, match="needs a token"):
        GatewayServer(gateway, host="0.0.0.0", terms=terms)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()

        async def listen() -> None:
            async with GatewayServer(gateway, port=taken.getsockname()[1]):
                pass

        with pytest.raises(AskesisError, match="cannot be used"):
            asyncio.run(listen())
    require_serving()
    monkeypatch.setattr(server_module, "find_spec", lambda name: None)

    async def enter() -> None:
        await GatewayServer(gateway).__aenter__()

    with pytest.raises(MissingExtra, match="starlette") as caught:
        asyncio.run(enter())
    assert "askesis[serve]" in (caught.value.next_step or "")


def test_too_many_requests_at_once_are_sent_away_for_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MAX_OPEN", 0)

    async def check(site: Site) -> None:
        answer = await site.http.post(site.server.base_url + "/chat/completions", json={**ASK, "model": "nano"})
        assert answer.status_code == 429 and answer.json()["error"]["code"] == "overloaded"
        assert answer.headers["x-should-retry"] == "true"
        assert (await site.post(ASK)).status_code == 200  # sessions are bounded by the rollout

    serve(check)
