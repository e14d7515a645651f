"""Asking servers that somebody else looks after."""

from __future__ import annotations

import asyncio
import logging

import pytest

from askesis.engines import Request, Sampling
from askesis.engines.vllm.client import Address, Servers, VllmClient
from askesis.engines.vllm.wire import ReplicaLost
from askesis.errors import ContextOverflow, EngineError
from askesis.policy.loading import Policy
from fake_vllm import KEY, FakeVllm, fakes


def client(policy: Policy) -> VllmClient:
    size = policy.model.get_input_embeddings().num_embeddings
    return VllmClient(name=policy.name, context_length=policy.context_length, vocab_size=size, request_timeout_s=10.0)


def addresses(servers: list[FakeVllm], policy: Policy, version: int = 3) -> Servers:
    return Servers(
        version=version,
        replicas=tuple(Address(index=i, url=s.url, key=KEY, model=policy.name) for i, s in enumerate(servers)),
    )


def request(number: int, prefix: tuple[int, ...] = (5, 6, 7)) -> Request:
    return Request(
        prefix=prefix, sampling=Sampling(max_tokens=4), stop_ids=(0,), seed=number, session=f"session {number}"
    )


def test_answers_bear_the_version_that_the_servers_were_said_to_hold(tiny: Policy) -> None:
    async def main(servers: list[FakeVllm]) -> list[int]:
        engine = client(tiny)
        versions = []
        for version in (3, 4):
            await engine.use(addresses(servers, tiny, version))
            versions += [(await engine.generate(request(i))).version for i in range(3)]
        await engine.close()
        return versions

    with fakes(tiny, 2) as servers:
        assert asyncio.run(main(servers)) == [3, 3, 3, 4, 4, 4]


def test_a_lost_server_is_left_out_until_others_are_named(tiny: Policy, caplog: pytest.LogCaptureFixture) -> None:
    async def main(servers: list[FakeVllm]) -> tuple[int, int]:
        engine = client(tiny)
        await engine.use(addresses(servers, tiny))
        servers[0].stop()
        for i in range(8):
            await engine.generate(request(i))
        alone = len(servers[1].requests)
        servers[1].stop()
        with pytest.raises(ReplicaLost):
            await engine.generate(request(9))
        with pytest.raises(EngineError, match="no server is left"):
            await engine.generate(request(9))
        servers[0].start()
        await engine.use(addresses(servers[:1], tiny))
        await engine.generate(request(10))
        await engine.close()
        servers[1].start()
        return alone, len(servers[0].requests)

    with caplog.at_level(logging.WARNING), fakes(tiny, 2) as servers:
        assert asyncio.run(main(servers)) == (8, 1)
    assert sum("is left out" in record.getMessage() for record in caplog.records) == 2


def test_what_does_not_fit_is_refused(tiny: Policy) -> None:
    engine = client(tiny)
    with pytest.raises(ContextOverflow):
        asyncio.run(engine.generate(request(0, prefix=(1,) * tiny.context_length)))


def test_it_knows_nothing_of_weights(tiny: Policy) -> None:
    engine = client(tiny)
    with pytest.raises(EngineError, match="told of weights"):
        engine.publish(1)
    with pytest.raises(EngineError, match="does not know the weights"):
        engine.weights_hash()


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(Address(index=0, url="http://127.0.0.1:1", key="secret", model="m"))
