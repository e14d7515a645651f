"""``askesis serve`` as a user starts it, and the usual mistakes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from askesis.cli.commands import serve
from askesis.errors import PolicyError, RecipeError


def run(policy: str = "nano", *, port: int = 0, host: str = "127.0.0.1", max_tokens: int = 9) -> None:
    serve.run(policy, host=host, port=port, token=None, name=None, max_tokens=max_tokens, seed=0, json_output=True)


def test_a_policy_is_served_until_the_process_is_told_to_end(tiny_folder: Path) -> None:
    command = [sys.executable, "-m", "askesis", "serve", str(tiny_folder), "--name", "tiny", "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with process.stdout as lines:
            told = json.loads(lines.readline())
        assert told["model"] == "tiny" and told["token"] is None and told["base_url"].startswith("http://127.0.0.1:")
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "seed": 1}
        replies = [httpx.post(f"{told['base_url']}/chat/completions", json=body, timeout=60).json() for _ in range(2)]
        assert replies[0]["usage"]["completion_tokens"] <= 5
        assert replies[0]["choices"] == replies[1]["choices"]  # the same seed
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def test_usual_mistakes() -> None:
    with pytest.raises(RecipeError, match="out of range"):
        run(port=70_000)
    with pytest.raises(RecipeError, match="out of range"):
        run(max_tokens=0)
    with pytest.raises(PolicyError, match="did you mean 'nano'"):
        run("nanno")
