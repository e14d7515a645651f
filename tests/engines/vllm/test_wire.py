"""Calls to a server: what it says of itself, what it refuses, and that no wait is without an end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from askesis.engines import Request, Sampling
from askesis.engines.vllm.answers import request_body
from askesis.engines.vllm.weights import write_snapshot
from askesis.engines.vllm.wire import ReplicaLost, Server, check_url
from askesis.errors import EngineError, RecipeError
from askesis.policy.loading import Policy
from fake_vllm import KEY, FakeVllm, fakes

BODY = request_body(Request(prefix=(5, 6), sampling=Sampling(max_tokens=2), stop_ids=(), seed=0), "tiny")


@pytest.fixture
def fake(tiny: Policy) -> Iterator[FakeVllm]:
    with fakes(tiny) as [server]:
        yield server


@pytest.fixture
def server(fake: FakeVllm) -> Server:
    return Server("replica 0", fake.url, KEY)


def test_what_a_server_says_of_itself(server: Server, fake: FakeVllm) -> None:
    facts = server.look()
    assert (facts.version, facts.model, facts.max_model_len) == ("0.32.0", fake.model_name, 256)
    assert facts.has_door and facts.vocab_size == fake.vocab_size and facts.dtype == "float32"
    assert facts.logprobs_mode == "processed_logprobs" and facts.architectures == ("Qwen3ForCausalLM",)


def test_a_plain_server_says_less(tiny: Policy) -> None:
    with fakes(tiny, has_door=False) as [plain]:
        facts = Server("replica 0", plain.url, "").look()
    assert not facts.has_door and facts.vocab_size is None and facts.logprobs_mode is None


def test_an_old_server_is_refused(server: Server, fake: FakeVllm) -> None:
    fake.version = "0.11.0"
    with pytest.raises(EngineError, match="too old") as caught:
        server.look()
    assert caught.value.where == f"replica 0 at {fake.url}" and caught.value.got == "0.11.0"


def test_a_wrong_key_is_said_to_be_wrong(fake: FakeVllm) -> None:
    with pytest.raises(EngineError, match="refuses our key"):
        Server("replica 0", fake.url, "guess").look()


def test_nobody_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ReplicaLost, match="cannot be reached") as caught:
            Server("replica 0", url, "").look()
        assert not caught.value.silent and url in str(caught.value)


def test_somebody_else_there(fake: FakeVllm, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def route(path: str, body: Any) -> tuple[int, Any]:
        return 200, ["hello"]

    monkeypatch.setattr(fake, "_route", route)
    with pytest.raises(EngineError, match="does not speak vLLM's protocol"):
        server.look()


def test_weights_are_loaded_and_their_hash_told(server: Server, fake: FakeVllm, tiny: Policy, tmp_path: Path) -> None:
    assert server.held(5) == (-1, "", False)  # nothing is known of what it started with
    snapshot = write_snapshot(tiny, tmp_path, 4)
    assert server.load(snapshot.file, 4, has_door=True, timeout_s=10) == snapshot.content
    assert server.held(5) == (4, snapshot.content, True)
    fake.policy.model.model.norm.weight.data += 1.0
    assert server.held(5) == (4, snapshot.content, False)
    with pytest.raises(EngineError, match="refuses a request") as caught:
        server.load(tmp_path / "absent", 5, has_door=True, timeout_s=10)
    assert "absent" in str(caught.value)
    assert server.held(5) == (-1, "", False)


def test_a_plain_server_in_production_cannot_take_weights(fake: FakeVllm, server: Server, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be given new weights") as caught:
        server.load(tmp_path / "model.safetensors", 1, has_door=False, timeout_s=5)
    assert "extension" in str(caught.value)


def run(work: Callable[[], Any]) -> Any:
    return asyncio.run(work())


def test_a_server_that_does_not_answer_is_given_up(server: Server, fake: FakeVllm) -> None:
    fake.hangs = True

    async def main() -> None:
        try:
            with pytest.raises(ReplicaLost, match="does not answer") as caught:
                await server.generate(BODY, 0.2)
            assert caught.value.silent and "0.2 s" in str(caught.value)
        finally:
            await server.close()

    run(main)


def test_a_failure_of_the_engine_is_not_a_refusal(server: Server, fake: FakeVllm) -> None:
    async def main() -> None:
        fake.fails = True
        with pytest.raises(ReplicaLost, match="the server failed"):
            await server.generate(BODY, 5)
        fake.fails = False
        answer = await server.generate(BODY, 5)
        assert len(answer["choices"][0]["token_ids"]) == 2
        await server.close()

    run(main)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h:1", "http://", "http://h:1/v1", "http://h:1?key=2"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(RecipeError, match="not the address of a server"):
        check_url(url, "key")


def test_addresses_carry_no_secrets_and_other_machines_need_a_key() -> None:
    assert check_url("http://127.0.0.1:8000/", "") == "http://127.0.0.1:8000"
    assert check_url("https://gpu7:8000", "key") == "https://gpu7:8000"
    with pytest.raises(RecipeError, match="needs a key"):
        check_url("http://gpu7:8000", "")
    with pytest.raises(RecipeError, match="a secret in an address"):
        check_url("http://me:secret@127.0.0.1:8000", "key")


def test_no_proxy_stands_between(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert server.look().version == "0.32.0"
