"""A small server that speaks vLLM's routes on a port of this machine, behind the very door that real servers get.

Its answers have the shape of those that a real vLLM gave (``tests/engines/vllm/recorded``); ids and numbers come from a
copy of a tiny model. It can be told to misbehave in the ways that servers do.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from askesis.engines import Request, Sampling
from askesis.engines.embedded import EmbeddedEngine
from askesis.engines.vllm.server.askesis_vllm import Door, Worker
from askesis.gateway.http.listening import listen, make_server
from askesis.policy.loading import Policy

RECORDED = Path(__file__).parent / "engines" / "vllm" / "recorded"
KEY = "a key for tests"


class FakeWorker(Worker):
    """What vLLM's worker is to the extension, on a model of transformers."""

    def __init__(self, fake: FakeVllm) -> None:
        self._fake = fake
        self.model_runner = SimpleNamespace(get_model=lambda: fake.policy.model)

    def reload_weights(self, *, weights_iterator: Any = None, weights_path: str = "") -> None:
        from safetensors.torch import load_file

        fresh = dict(weights_iterator) if weights_iterator else load_file(Path(weights_path) / "model.safetensors")
        if not self._fake.keeps_old_weights:
            missing = self._fake.policy.model.load_state_dict(fresh, strict=False)
            assert set(missing.missing_keys) <= {"lm_head.weight"} and not missing.unexpected_keys
            if "engine" in vars(self._fake):
                self._fake.engine.publish(0)


class FakeVllm:
    """One server. Attributes may be changed while it runs.

    Args:
        policy: served from a copy of its weights.
        has_door: our extension runs in it. Otherwise it is a plain vLLM in its development mode.
        port: to listen on; 0: any that is free.
    """

    def __init__(self, policy: Policy, *, has_door: bool = True, port: int = 0) -> None:
        self.policy = replace(policy, model=copy.deepcopy(policy.model))
        self.version, self.model_name, self.max_model_len = "0.32.0", policy.name, policy.context_length
        self.logprobs_mode = "processed_logprobs"
        self.architectures = [type(policy.model).__name__]
        self.vocab_size = policy.model.config.vocab_size
        self.keeps_old_weights = self.gives_raw = self.hangs = self.fails = False
        self.break_answer: Any = None
        """Called with every answer of a sampling request; returns what is sent instead."""
        self.requests: list[dict[str, Any]] = []
        self.state = SimpleNamespace(engine_client=self)
        self.vllm_config = SimpleNamespace(model_config=self)
        self.worker = FakeWorker(self)
        self._has_door = has_door
        self._app: Any = Door(self._serve) if has_door else self._serve
        self._socket: socket.socket | None = None
        self.port = port
        self.start()

    @cached_property
    def engine(self) -> EmbeddedEngine:
        """Made when the first answer is sampled."""
        return EmbeddedEngine(self.policy, admission="continuous")

    # What the door asks of vLLM.

    hf_config = property(lambda self: SimpleNamespace(architectures=self.architectures))
    dtype = torch.float32

    def get_vocab_size(self) -> int:
        return int(self.vocab_size)

    async def pause_generation(self, *, mode: str) -> None:
        assert mode == "wait"

    async def resume_generation(self) -> None: ...

    async def reset_prefix_cache(self) -> bool:
        return True

    async def collective_rpc(
        self, method: str, timeout: float | None = None, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> list[Any]:
        return [getattr(self.worker, method)(*args, **(kwargs or {}))]

    # The server.

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self._socket = listen("127.0.0.1", self.port)
        self._socket.listen(128)  # whoever comes before the thread has begun waits for it
        self.port = self._socket.getsockname()[1]
        self._uvicorn = make_server(self._outer, is_local=True)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone, in the middle of whatever is being answered."""
        assert self._socket is not None
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        self._thread.join(10)
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._uvicorn.serve(sockets=[self._socket]))

    async def _outer(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "app": self}, receive, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, content = await self._route(scope["path"], json.loads(body) if body else None)
        data = b"" if content is None else json.dumps(content).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _route(self, path: str, body: Any) -> tuple[int, Any]:
        if path == "/inference/v1/generate":
            return await self._generate(body)
        if path == "/health":
            return 200, None
        if path == "/version":
            return 200, {"version": self.version}
        if path == "/v1/models":
            card = {**recorded("models")["data"][0], "id": self.model_name, "max_model_len": self.max_model_len}
            return 200, {**recorded("models"), "data": [card]}
        if path == "/collective_rpc" and not self._has_door:
            await self.collective_rpc(body["method"], kwargs=body["kwargs"])
            return 200, {"results": [None]}
        if path == "/reset_prefix_cache" and not self._has_door:
            return 200, {"success": True}
        return 404, {"detail": "Not Found"}

    async def _generate(self, body: Any) -> tuple[int, Any]:
        self.requests.append(body)
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails:
            return 500, recorded("error")
        given = body["sampling_params"]
        answer = recorded("generate")
        choice = answer["choices"][0]
        entry = choice["logprobs"]["content"][0]
        request = Request(
            prefix=tuple(body["token_ids"]),
            sampling=Sampling(
                temperature=given["temperature"],
                top_p=given["top_p"],
                top_k=given["top_k"],
                max_tokens=given["max_tokens"],
            ),
            stop_ids=tuple(given.get("stop_token_ids", ())),
            seed=given["seed"],
        )
        done = await self.engine.generate(request)
        logprobs = done.logprobs
        if self.gives_raw or given["temperature"] == 0:
            logprobs = tuple(self._own([*request.prefix, *done.tokens])[-len(done.tokens) :])
        choice |= {"token_ids": list(done.tokens), "finish_reason": done.finish}
        choice["stop_reason"] = done.tokens[-1] if done.finish == "stop" else None
        choice["logprobs"]["content"] = [
            {**entry, "token_id": token, "logprob": logprob}
            for token, logprob in zip(done.tokens, logprobs, strict=True)
        ]
        if given.get("prompt_logprobs") is not None:
            own = self._own(body["token_ids"])
            answer["prompt_logprobs"] = [
                None,
                *({str(t): {"logprob": p}} for t, p in zip(body["token_ids"][1:], own, strict=True)),
            ]
        return 200, self.break_answer(answer) if self.break_answer else answer

    @torch.no_grad()
    def _own(self, ids: list[int]) -> list[float]:
        """The model's own log-probabilities of ``ids`` from the second on."""
        ids_N = torch.tensor(ids)
        logp_NV = self.policy.model(input_ids=ids_N[None], use_cache=False).logits[0, :-1].float().log_softmax(-1)
        found: list[float] = logp_NV.gather(-1, ids_N[1:, None])[:, 0].tolist()
        return found


class FakeProcess:
    """What a fleet starts, with a fake server in it."""

    def __init__(self, policy: Policy, log: Path) -> None:
        self.fake = FakeVllm(policy)
        self.url, self.key, self.log, self.is_alive = self.fake.url, KEY, log, True

    def tail(self) -> str:
        return "the last line of the log"

    def kill(self) -> None:
        """As ``kill -9`` would end it."""
        if self.is_alive:
            self.is_alive = False
            self.fake.stop()

    close = kill


def recorded(name: str) -> Any:
    """What a real server answered."""
    return json.loads((RECORDED / f"{name}.json").read_text())


@contextmanager
def fakes(policy: Policy, count: int = 1, *, has_door: bool = True) -> Iterator[list[FakeVllm]]:
    """Servers that are stopped at the end, with the key in the environment meanwhile."""
    with patch.dict(os.environ, ASKESIS_VLLM_KEY=KEY):
        servers = [FakeVllm(policy, has_door=has_door) for _ in range(count)]
        try:
            yield servers
        finally:
            for server in servers:
                server.stop()
