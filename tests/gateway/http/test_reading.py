"""Bodies, secrets, retries and clients who leave, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from askesis.policy.loading import Policy
from askesis.trace import StopReason
from http_site import Site, Slow, by_seed

Serve = Callable[..., None]
ASK: dict[str, Any] = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


def test_a_wrong_secret_gets_401_and_an_unknown_session_404(serve: Serve) -> None:
    async def check(site: Site) -> None:
        for key in ("wrong", site.access.api_key[:-1]):
            answer = await site.post(ASK, key=key)
            assert answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        bare = await site.http.post(f"{site.access.base_url}/chat/completions", json=ASK)
        assert bare.status_code == 401
        stranger = site.connect(site.access.base_url, "wrong")
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(**ASK)
        unknown = await site.http.post(f"{site.server.base_url}/sessions/nobody/chat/completions", json=ASK)
        assert unknown.status_code == 404
        assert site.endpoint.num_replies == 0

    serve(check)


def test_an_oversized_request_gets_413(serve: Serve) -> None:
    async def check(site: Site) -> None:
        big = {**ASK, "messages": [{"role": "user", "content": "x" * 3000}]}
        with pytest.raises(openai.APIStatusError) as caught:
            await site.client.chat.completions.create(**big)
        assert caught.value.status_code == 413
        far_too_big = {**ASK, "messages": [{"role": "user", "content": "x" * 40_000}]}
        with contextlib.suppress(httpx.HTTPError):  # the connection may be closed before all of it was sent
            assert (await site.post(far_too_big)).status_code == 413
        assert site.endpoint.num_replies == 0

    serve(check, max_body_bytes=2000)


def test_malformed_requests_get_400_in_openais_shape(serve: Serve) -> None:
    async def check(site: Site) -> None:
        url, key = f"{site.access.base_url}/chat/completions", {"authorization": f"Bearer {site.access.api_key}"}
        typed = {**key, "content-type": "application/json"}
        broken = await site.http.post(url, content=b"{", headers=typed)
        assert broken.status_code == 400 and broken.json()["error"]["type"] == "invalid_request_error"
        untyped = await site.http.post(url, content=b"{}", headers={**key, "content-type": "text/plain"})
        assert untyped.status_code == 415  # what a web page can send without asking
        assert (await site.http.get(url, headers=key)).status_code == 405
        assert (await site.http.get(f"{site.server.base_url}/nothing")).json()["error"]["code"] == "not_found"
        with pytest.raises(openai.BadRequestError) as caught:
            await site.client.chat.completions.create(**ASK, frequency_penalty=1.0)
        assert caught.value.param == "frequency_penalty"

    serve(check)


def test_a_client_that_leaves_cancels_its_call(serve: Serve, tiny: Policy) -> None:
    engine = Slow(tiny.template, by_seed)

    async def check(site: Site) -> None:
        asking = asyncio.create_task(site.post(ASK))
        while not engine.begun:
            await asyncio.sleep(0.005)
        asking.cancel()
        while not engine.cancelled:
            await asyncio.sleep(0.005)
        while 'status="499"} 1.0' not in (await site.http.get(site.root + "/metrics")).text:
            await asyncio.sleep(0.005)
        assert site.endpoint.num_replies == 0

    serve(check, engine=engine)


def test_openais_own_retry_after_a_lost_connection_is_not_sampled_twice(serve: Serve) -> None:
    """A proxy between client and server that swallows the first answer, as a broken network does."""

    async def check(site: Site) -> None:
        port = httpx.URL(site.server.base_url).port
        connections = 0

        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            swallow = connections == 1
            inside, outside = await asyncio.open_connection("127.0.0.1", port)

            async def up() -> None:
                while data := await reader.read(65536):
                    outside.write(data)

            task = asyncio.create_task(up())
            while data := await inside.read(65536):
                if swallow:
                    break
                writer.write(data)
            task.cancel()
            outside.close()
            writer.close()

        proxy = await asyncio.start_server(forward, "127.0.0.1", 0)
        through = site.access.base_url.replace(str(port), str(proxy.sockets[0].getsockname()[1]))
        reply = await site.connect(through, site.access.api_key).chat.completions.create(**ASK)
        proxy.close()
        assert connections == 2
        (call,) = site.endpoint.close(StopReason.TERMINATED).calls
        assert call.reply is not None and reply.choices[0].message.content == call.reply.content

    serve(check)


def test_a_retry_gets_the_recorded_answer_and_not_a_second_sample(serve: Serve) -> None:
    async def check(site: Site) -> None:
        first = await site.post(ASK, x_stainless_retry_count="0")
        again = await site.post({**ASK, "stream": False}, x_stainless_retry_count="1")
        assert again.json() == first.json() and again.headers["x-askesis-repeated"] == "true"
        bare = [(await site.post({**ASK, "n": 2})).json()["id"] for _ in range(2)]
        assert bare[0] == bare[1]
        fresh = await site.post(ASK, x_stainless_retry_count="0")
        assert fresh.json()["id"] != first.json()["id"]
        keyed = [(await site.post(ASK, idempotency_key="k")).json()["id"] for _ in range(2)]
        assert keyed[0] == keyed[1]
        other = await site.post({**ASK, "n": 2}, idempotency_key="k")
        assert other.status_code == 400 and other.json()["error"]["code"] == "idempotency_key_reused"
        assert len(site.endpoint.close(StopReason.TERMINATED).calls) == 1 + 2 + 1 + 1

    serve(check)
