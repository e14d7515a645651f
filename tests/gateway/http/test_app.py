"""The routes with OpenAI's own client over loopback: what is asked is honoured, and recorded token-exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.policy.loading import Policy
from askesis.trace import StopReason
from http_site import Site, by_seed

Serve = Callable[..., None]
ASK: dict[str, Any] = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


def test_a_dialogue_is_recorded_token_exact(serve: Serve) -> None:
    async def check(site: Site) -> None:
        history = list(ASK["messages"])
        for text in ("more", "and more"):
            reply = (await site.client.chat.completions.create(model="policy", messages=history)).choices[0]
            assert reply.finish_reason == "stop"
            history += [{"role": "assistant", "content": reply.message.content}, {"role": "user", "content": text}]
        last = await site.client.chat.completions.create(model="policy", messages=history)
        trace = site.endpoint.close(StopReason.TERMINATED)
        assert len(trace.leaves()) == 1 and len(trace.calls) == 3
        assert last.usage is not None
        assert last.usage.prompt_tokens == len(trace.calls[-1].context)
        assert last.usage.completion_tokens == len(trace.calls[-1].sampled)
        assert last.choices[0].message.content == trace.calls[-1].reply.content  # type: ignore[union-attr]

    serve(check)


def test_a_stream_says_the_same(serve: Serve) -> None:
    async def check(site: Site) -> None:
        whole = await site.client.chat.completions.create(**ASK, seed=4, logprobs=True)
        stream = await site.client.chat.completions.create(
            **ASK, seed=4, logprobs=True, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert text == whole.choices[0].message.content
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage == whole.usage and chunks[0].choices[0].delta.role == "assistant"
        logprobs = [c.choices[0].logprobs for c in chunks if c.choices and c.choices[0].logprobs]
        assert whole.choices[0].logprobs is not None
        assert [one.model_dump() for one in logprobs] == [whole.choices[0].logprobs.model_dump()]

    serve(check)


def test_choices_logprobs_seed_and_limits(serve: Serve) -> None:
    async def check(site: Site) -> None:
        create = site.client.chat.completions.create
        many = await create(**ASK, n=3, logprobs=True)
        assert [c.index for c in many.choices] == [0, 1, 2]
        assert len({c.message.content for c in many.choices}) == 3
        assert many.choices[0].logprobs is not None and many.choices[0].logprobs.content is not None
        tokens = many.choices[0].logprobs.content
        assert {t.logprob for t in tokens} == {-0.5} and tokens[-1].token == "<|end|>"
        assert "".join(t.token for t in tokens[:-1]) == many.choices[0].message.content
        same = [(await create(**ASK, seed=seed)).choices[0].message.content for seed in (7, 7, 8)]
        assert same[0] == same[1] != same[2]
        short = await create(**ASK, max_tokens=2)
        assert short.choices[0].finish_reason == "length" and short.usage is not None
        assert short.usage.completion_tokens == 2
        trace = site.endpoint.close(StopReason.TERMINATED)
        assert len(trace.calls) == 7

    serve(check)


def test_an_unknown_model_gets_404_and_the_known_one_is_listed(serve: Serve) -> None:
    async def check(site: Site) -> None:
        with pytest.raises(openai.NotFoundError, match="the one here is 'policy'"):
            await site.client.chat.completions.create(**{**ASK, "model": "gpt-9"})
        assert [m.id async for m in site.client.models.list()] == ["policy"]
        assert [m.id async for m in site.public.models.list()] == ["nano"]
        assert (await site.public.models.retrieve("nano")).id == "nano"
        with pytest.raises(openai.NotFoundError):
            await site.public.models.retrieve("other")

    serve(check)


def test_the_plain_endpoint_honours_what_is_asked(serve: Serve, tiny: Policy) -> None:
    asked: list[Sampling] = []

    class Watching(ScriptedEngine):
        async def generate(self, request: Any) -> Any:
            asked.append(request.sampling)
            return await super().generate(request)

    async def check(site: Site) -> None:
        create = site.public.chat.completions.create
        replies = [await create(model="nano", messages=ASK["messages"]) for _ in range(3)]
        assert len({r.choices[0].message.content for r in replies}) == 3
        await create(model="nano", messages=ASK["messages"], temperature=0.25, top_p=0.5, extra_body={"top_k": 4})
        assert asked[-1] == Sampling(temperature=0.25, top_p=0.5, top_k=4, max_tokens=80)
        seeded = [(await create(model="nano", messages=ASK["messages"], seed=s, n=2)).choices for s in (3, 4, 3)]
        assert seeded[0] == seeded[2] != seeded[1] and len({c.message.content for c in seeded[0]}) == 2
        assert site.endpoint.num_replies == 0

    serve(check, engine=Watching(tiny.template, by_seed))


def test_health_and_metrics(serve: Serve) -> None:
    async def check(site: Site) -> None:
        await site.client.chat.completions.create(**ASK)
        health = (await site.http.get(site.root + "/health")).json()
        assert health == {"status": "ok", "sessions": 1, "open_requests": 0}
        text = (await site.http.get(site.root + "/metrics")).text
        assert 'askesis_requests_total{status="200"} 1.0' in text and "askesis_sessions 1.0" in text

    serve(check)
