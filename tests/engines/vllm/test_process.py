"""Servers are found, started behind a key on loopback, and end with us."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from askesis.engines.vllm.process import ServerProcess, command_of, find_vllm, is_too_old
from askesis.engines.vllm.server import FOLDER
from askesis.errors import EngineError
from askesis.recipe.schema import VllmSection

SAYS = (
    "import json, os, sys, time\n"
    "print(json.dumps({'argv': sys.argv[1:], 'env': dict(os.environ), 'pid': os.getpid()}), flush=True)\n"
    "time.sleep(60)"
)


def interpreter(folder: Path, says: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_vllm_is_found_in_another_environment(tmp_path: Path) -> None:
    assert find_vllm(interpreter(tmp_path, "0.32.0")) == "0.32.0"


def test_a_missing_or_old_vllm_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="vLLM is not installed") as caught:
        find_vllm(interpreter(tmp_path, ""))
    assert "engine.vllm.python" in str(caught.value)
    with pytest.raises(EngineError, match="too old") as caught:
        find_vllm(interpreter(tmp_path, "0.11.2"))
    assert caught.value.got == "0.11.2"
    with pytest.raises(EngineError, match="cannot be run"):
        find_vllm(str(tmp_path / "absent" / "python"))


@pytest.mark.parametrize(
    ("version", "old"), [("0.31.9", True), ("0.32.0", False), ("1.0", False), ("0.40.1rc1", False), ("dev", False)]
)
def test_versions(version: str, old: bool) -> None:
    assert is_too_old(version) is old


def test_the_command_asks_for_the_logprobs_of_what_is_sampled(tmp_path: Path) -> None:
    settings = VllmSection(python="/v/bin/python", arguments=["--enforce-eager"])
    command = command_of(settings, model="nano", dtype="float32", max_model_len=512, max_batch=64)
    text = " ".join(command)
    assert command[:3] == ["/v/bin/python", "-m", "vllm.entrypoints.launchers.api_server.entry"]
    for part in (
        "--served-model-name nano",
        "--logprobs-mode processed_logprobs",
        "--generation-config vllm",
        "--max-model-len 512",
    ):
        assert part in text
    assert "--middleware askesis_vllm.Door" in text and "--worker-extension-cls askesis_vllm.Worker" in text
    assert command[-1] == "--enforce-eager" and "key" not in text


def said(process: ServerProcess) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while not process.log.read_text().endswith("\n"):
        assert time.monotonic() < deadline and process.is_alive
        time.sleep(0.02)
    found: dict[str, Any] = json.loads(process.log.read_text().splitlines()[0])
    return found


def gone(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in (("PYTHONPATH", "/ours"), ("VLLM_API_KEY", "x"), ("VLLM_SERVER_DEV_MODE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ASKESIS_VLLM_KEY", "of another server")
    process = ServerProcess([sys.executable, "-c", SAYS], log=tmp_path / "logs" / "vllm-0.log", devices="3")
    yield process
    process.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_server_listens_on_loopback_and_its_key_is_in_no_command_line(server: ServerProcess) -> None:
    facts = said(server)
    assert facts["argv"][:3] == ["--host", "127.0.0.1", "--port"]
    assert server.url == f"http://127.0.0.1:{facts['argv'][3]}"
    env = facts["env"]
    assert env["ASKESIS_VLLM_KEY"] == server.key and len(server.key) >= 32 and server.key not in facts["argv"]
    assert env["PYTHONPATH"] == str(FOLDER) and env["CUDA_VISIBLE_DEVICES"] == "3"
    assert "VLLM_API_KEY" not in env and "VLLM_SERVER_DEV_MODE" not in env
    assert os.getpgid(facts["pid"]) == server.group != os.getpgid(0)
    server.close()
    assert gone(facts["pid"]) and not server.is_alive
    server.close()  # harmless


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("who", ["server", "keeper"])
def test_a_killed_server_is_noticed_and_leaves_nothing(server: ServerProcess, who: str) -> None:
    number = said(server)["pid"]
    os.kill(number if who == "server" else server.group, signal.SIGKILL)
    wait_for(lambda: not server.is_alive)
    server.close()
    wait_for(lambda: gone(number))
    assert ("ended with status -9" in server.tail()) is (who == "server")
