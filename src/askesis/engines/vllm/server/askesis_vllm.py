"""Runs inside a vLLM server, in its own environment: a door in front of its routes, and weights from safetensors.

    vllm serve MODEL --middleware askesis_vllm.Door --worker-extension-cls askesis_vllm.Worker ...

vLLM's own key guards some prefixes only, and its routes for weight updates exist in its development mode alone, open to
whoever reaches the port. The door asks for the key (``ASKESIS_VLLM_KEY``) on every route, lets through only those that
sampling needs, and adds two of its own:

    GET  /askesis/state                              -> what is served, and the hashes of the weights
    POST /askesis/load {"file": "...", "version": 7} -> {"version": 7, "content": "sha256"}

Only the standard library is imported before a request comes.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

__all__ = ["EXTENSION", "Door", "Worker", "digest"]

EXTENSION = 1
"""Version of these routes."""

_OPEN = ("/health",)
_PASSED = ("/version", "/v1/models", "/inference/v1/generate", "/metrics")
_MAX_BODY = 1 << 16
_LOAD_S = 1800.0

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


def digest(tensors: Iterable[tuple[str, Any]]) -> str:
    """SHA-256 over names, types, shapes and bytes of ``tensors``, which come in the order of their names."""
    import torch

    found = hashlib.sha256()
    for name, tensor in tensors:
        plain = tensor.detach().cpu().contiguous()
        found.update(json.dumps([name, str(plain.dtype), list(plain.shape)]).encode())
        if plain.numel():
            found.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


class Worker:
    """Methods that vLLM adds to each of its workers."""

    def askesis_load(self, file: str, version: int) -> dict[str, Any]:
        """Replace the weights by those in ``file`` (safetensors, names of the checkpoint); hashes of what was read."""
        from safetensors import safe_open

        worker: Any = self
        worker.askesis_held = None  # until all is well, nothing is known of the weights
        with safe_open(file, framework="pt", device="cpu") as source:
            names = sorted(source.keys())
            content = digest((name, source.get_tensor(name)) for name in names)
            worker.reload_weights(weights_iterator=((name, source.get_tensor(name)) for name in names))
        for layer in worker.model_runner.get_model().modules():
            # On a CPU, an output layer that is tied to the embedding computes with a packed copy of it, which vLLM
            # makes when it starts and leaves as it was when it reloads.
            if hasattr(layer, "cpu_linear") and hasattr(layer, "tie_weights"):
                layer.quant_method.process_weights_after_loading(layer)
        worker.askesis_held = {"version": version, "content": content, "resident": self.askesis_resident()}
        return {"version": version, "content": content}

    def askesis_state(self) -> dict[str, Any]:
        """Version and hash of what was loaded last; ``intact`` if the tensors are still those that it left behind."""
        held = getattr(self, "askesis_held", None)
        if held is None:
            return {"version": -1, "content": "", "intact": False}
        intact = held["resident"] == self.askesis_resident()
        return {"version": held["version"], "content": held["content"], "intact": intact}

    def askesis_resident(self) -> str:
        """Hash of this worker's tensors as they lie in memory, in vLLM's layout."""
        worker: Any = self
        return digest(sorted(worker.model_runner.get_model().state_dict().items()))


class Door:
    """ASGI middleware: who may come in, and to which routes."""

    def __init__(self, app: Callable[[Any, _Receive, _Send], Awaitable[None]]) -> None:
        self._app = app
        self._key = os.environ.get("ASKESIS_VLLM_KEY", "").encode()
        if not self._key:
            raise RuntimeError("ASKESIS_VLLM_KEY is not set: without a key, anybody could replace the weights")
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Answer, pass on, or refuse."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        if path in _OPEN:
            await self._app(scope, receive, send)
        elif not self._knows(scope):
            await _answer(send, 401, {"error": "the key is missing or wrong"})
        elif path in _PASSED:
            await self._app(scope, receive, send)
        elif (scope["method"], path) == ("GET", "/askesis/state"):
            await _answer(send, 200, await _state(scope["app"].state.engine_client))
        elif (scope["method"], path) == ("POST", "/askesis/load"):
            await self._load(scope, receive, send)
        else:
            await _answer(send, 404, {"error": "no such route behind this door"})

    def _knows(self, scope: Any) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, b"Bearer " + self._key)

    async def _load(self, scope: Any, receive: _Receive, send: _Send) -> None:
        order = await _body(receive)
        if not (isinstance(order, dict) and isinstance(order.get("file"), str) and type(order.get("version")) is int):
            await _answer(send, 400, {"error": 'expected {"file": "...", "version": 0}'})
            return
        client = scope["app"].state.engine_client
        async with self._turn:
            try:
                await client.pause_generation(mode="wait")  # answers under way end with the weights they began with
                try:
                    loaded = await client.collective_rpc(
                        "askesis_load", timeout=_LOAD_S, args=(order["file"], order["version"])
                    )
                finally:
                    await client.reset_prefix_cache()
                    await client.resume_generation()
            except Exception as error:  # whatever it is, the other side must be told
                await _answer(send, 500, {"error": f"{type(error).__name__}: {error}"})
                return
        await _answer(send, 200, _same(loaded))


async def _state(client: Any) -> dict[str, Any]:
    config = client.vllm_config.model_config
    held = _same(await client.collective_rpc("askesis_state", timeout=_LOAD_S))
    return {
        "extension": EXTENSION,
        "vocab_size": int(config.get_vocab_size()),
        "max_model_len": int(config.max_model_len),
        "dtype": str(config.dtype).removeprefix("torch."),
        "logprobs_mode": str(config.logprobs_mode),
        "architectures": [str(name) for name in getattr(config.hf_config, "architectures", None) or ()],
        **held,
    }


def _same(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """What all workers say; workers that differ hold no known weights."""
    if any(answer != answers[0] for answer in answers):
        return {"version": -1, "content": "the workers hold different weights", "intact": False}
    return answers[0]


async def _body(receive: _Receive) -> Any:
    data = b""
    while len(data) <= _MAX_BODY:
        message = await receive()
        data += message.get("body", b"")
        if not message.get("more_body"):
            break
    try:
        return json.loads(data)
    except ValueError:
        return None


async def _answer(send: _Send, status: int, content: dict[str, Any]) -> None:
    data = json.dumps(content).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
