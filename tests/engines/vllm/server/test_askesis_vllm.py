"""The door and the worker's extension, without a server around them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from askesis.engines.vllm.server import FOLDER
from askesis.engines.vllm.server.askesis_vllm import Door, Worker, digest

INVENTORY = [
    *("/v1/completions", "/v1/chat/completions", "/v1/load_lora_adapter", "/collective_rpc", "/sleep", "/pause"),
    *("/update_weights", "/init_weight_transfer_engine", "/invocations", "/server_info", "/docs", "/openapi.json"),
    *("/tokenize", "/scale_elastic_ep", "/reset_prefix_cache", "/askesis/other", "/v1/models/../../collective_rpc"),
]
"""Routes of vLLM that sampling does not need."""


async def _inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b'"inside"'})


def ask(
    path: str, *, key: str | None = "k", method: str = "GET", body: bytes = b"", client: Any = None, kind: str = "http"
) -> tuple[int, Any]:
    sent: list[Any] = []
    parts = [{"type": "http.request", "body": body[:5], "more_body": True}, {"type": "http.request", "body": body[5:]}]

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
    app = SimpleNamespace(state=SimpleNamespace(engine_client=client))
    scope = {"type": kind, "path": path, "method": method, "headers": headers, "app": app}
    asyncio.run(Door(_inner)(scope, receive, send))
    if kind != "http":
        return sent[0]["code"], None
    return sent[0]["status"], json.loads(sent[1]["body"])


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASKESIS_VLLM_KEY", "k")


def test_without_a_key_there_is_no_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASKESIS_VLLM_KEY")
    with pytest.raises(RuntimeError, match="ASKESIS_VLLM_KEY"):
        Door(_inner)


@pytest.mark.parametrize("path", ["/inference/v1/generate", "/v1/models", "/version", "/metrics"])
def test_what_sampling_needs_passes_with_the_key_only(path: str) -> None:
    assert ask(path) == (200, "inside")
    for key in (None, "", "wrong", "kk"):
        assert ask(path, key=key)[0] == 401


@pytest.mark.parametrize("path", INVENTORY)
def test_everything_else_is_closed(path: str) -> None:
    assert ask(path)[0] == 404
    assert ask(path, key=None)[0] == 401
    assert ask(path, method="POST")[0] == 404


def test_health_is_open_and_sockets_are_not() -> None:
    assert ask("/health", key=None) == (200, "inside")
    assert ask("/v1/realtime", kind="websocket") == (1008, None)


class Client:
    """What the door needs of vLLM's client."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.calls = answers, []  # type: list[Any], list[Any]
        self.vllm_config = SimpleNamespace(
            model_config=SimpleNamespace(
                get_vocab_size=lambda: 10,
                max_model_len=20,
                dtype=torch.bfloat16,
                logprobs_mode="raw_logprobs",
                hf_config=SimpleNamespace(architectures=["A"]),
            )
        )

    async def collective_rpc(self, method: str, timeout: float, args: tuple[Any, ...] = ()) -> list[Any]:
        self.calls.append((method, *args))
        if isinstance(self.answers[0], Exception):
            raise self.answers[0]
        return self.answers

    async def pause_generation(self, *, mode: str) -> None:
        self.calls.append(f"pause {mode}")

    async def resume_generation(self) -> None:
        self.calls.append("resume")

    async def reset_prefix_cache(self) -> None:
        self.calls.append("reset")


def test_state() -> None:
    held = {"version": 3, "content": "c", "intact": True}
    assert ask("/askesis/state", client=Client([held, held])) == (
        200,
        {
            "extension": 1,
            "vocab_size": 10,
            "max_model_len": 20,
            "dtype": "bfloat16",
            "logprobs_mode": "raw_logprobs",
            "architectures": ["A"],
            **held,
        },
    )
    status, state = ask("/askesis/state", client=Client([held, {**held, "content": "d"}]))
    assert (status, state["version"], state["intact"]) == (200, -1, False)


def test_load_waits_for_answers_and_forgets_old_keys_and_values() -> None:
    client = Client([{"version": 3, "content": "c"}])
    order = json.dumps({"file": "/f", "version": 3}).encode()
    assert ask("/askesis/load", method="POST", body=order, client=client) == (200, {"version": 3, "content": "c"})
    assert client.calls == ["pause wait", ("askesis_load", "/f", 3), "reset", "resume"]
    assert ask("/askesis/load", method="GET", client=client)[0] == 404


def test_a_load_that_fails_says_why_and_sampling_goes_on() -> None:
    client = Client([ValueError("no such file")])
    order = json.dumps({"file": "/f", "version": 3}).encode()
    assert ask("/askesis/load", method="POST", body=order, client=client) == (
        500,
        {"error": "ValueError: no such file"},
    )
    assert client.calls[-2:] == ["reset", "resume"]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"file": 1, "version": 2}', b'{"file": "f", "version": true}'])
def test_a_wrong_order_is_refused(body: bytes) -> None:
    assert ask("/askesis/load", method="POST", body=body, client=Client([{}]))[0] == 400


def test_the_extension_loads_and_hashes(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)

    class Host(Worker):
        model_runner = SimpleNamespace(get_model=lambda: model)

        def reload_weights(self, *, weights_iterator: Any) -> None:
            model.load_state_dict(dict(weights_iterator))

    fresh = {"bias": torch.ones(2), "weight": torch.zeros(2, 2)}
    save_file(fresh, tmp_path / "model.safetensors")
    host = Host()
    assert host.askesis_state() == {"version": -1, "content": "", "intact": False}
    content = digest(sorted(fresh.items()))
    assert host.askesis_load(str(tmp_path / "model.safetensors"), 7) == {"version": 7, "content": content}
    assert host.askesis_state() == {"version": 7, "content": content, "intact": True}
    assert torch.equal(model.weight, torch.zeros(2, 2))
    with torch.no_grad():
        model.weight[0, 0] = 1e-8
    assert host.askesis_state()["intact"] is False


def test_an_output_layer_with_a_packed_copy_is_packed_anew(tmp_path: Path) -> None:
    packed: list[Any] = []

    class Tied(torch.nn.Linear):
        """As vLLM's on a CPU."""

        cpu_linear = None
        quant_method = SimpleNamespace(process_weights_after_loading=packed.append)

        def tie_weights(self) -> None: ...

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), Tied(2, 2))

    class Host(Worker):
        model_runner = SimpleNamespace(get_model=lambda: model)

        def reload_weights(self, *, weights_iterator: Any) -> None:
            assert packed == [] and len(list(weights_iterator)) == 1

    save_file({"0.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    Host().askesis_load(str(tmp_path / "model.safetensors"), 1)
    assert packed == [model[1]]


def test_hashes_tell_names_types_shapes_and_values_apart() -> None:
    a = torch.zeros(2, 3)
    others = [("b", a), ("a", a.half()), ("a", a.view(3, 2)), ("a", a + 1e-9), ("a", torch.zeros(0))]
    assert len({digest([item]) for item in [("a", a), *others]}) == 6
    assert digest([("a", a.t().contiguous().t())]) == digest([("a", a)])
    # SHA-256 of the JSON of name, type and shape, then the bytes.
    import hashlib

    head = json.dumps(["a", "torch.float32", [2, 3]]).encode()
    assert digest([("a", a)]) == hashlib.sha256(head + bytes(24)).hexdigest()


def test_a_server_can_import_it_from_its_folder_alone() -> None:
    code = "import sys, askesis_vllm; assert 'torch' not in sys.modules and 'askesis' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(FOLDER)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
