"""The retrieval service."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from askesis.environments.search.corpus import Hit
from askesis.environments.search.retrievers import make_retriever
from askesis.environments.search.server import MAX_BYTES, main, retrieval_app
from askesis.errors import EnvironmentFault
from environments.search.retrievers.cases import CORPUS


@pytest.fixture
def client() -> TestClient:
    return TestClient(retrieval_app(make_retriever("fts5", CORPUS)))


def test_it_answers_in_the_common_form(client: TestClient) -> None:
    answer = client.post("/retrieve", json={"queries": ["rome", "xyz"], "topk": 2, "return_scores": True}).json()
    assert answer["result"][1] == []
    (entry,) = answer["result"][0]
    assert entry["document"] == {"id": "p1", "contents": "Rome\nRome is the capital of Italy."} and entry["score"] > 0
    plain = client.post("/retrieve", json={"queries": ["cats dogs capital matters"]}).json()["result"][0]
    assert len(plain) == 3 and set(plain[0]) == {"id", "contents"}
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"queries": "x"}', b'{"queries": [1]}', b"[" * 100_000, b"\xff"]
    + [json.dumps({"queries": ["x"], "topk": k}).encode() for k in (0, 101, True, "3", 1.5)]
    + [json.dumps({"queries": ["x"] * 1025}).encode()],
)
def test_wrong_requests_are_refused(client: TestClient, body: bytes) -> None:
    response = client.post("/retrieve", content=body)
    assert response.status_code == 400 and response.json()["error"]


def test_a_request_that_is_too_large_is_refused(client: TestClient) -> None:
    assert client.post("/retrieve", content=b"x" * (MAX_BYTES + 1)).status_code == 413


def test_a_retriever_that_fails_is_said() -> None:
    class Down:
        is_deterministic = True

        async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            raise EnvironmentFault("the index is gone")

    response = TestClient(retrieval_app(Down())).post("/retrieve", json={"queries": ["x"]})
    assert response.status_code == 503 and "gone" in response.json()["error"]


def test_the_command_serves_a_file(tmp_path: Path) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"id": 1, "contents": "Rome\\nold"}\n')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "askesis.environments.search.server", str(corpus)]
    process = subprocess.Popen([*command, "--retriever", "fts5", "--port", str(port)])
    try:
        for _ in range(300):
            try:
                answer = httpx.post(f"http://127.0.0.1:{port}/retrieve", json={"queries": ["rome"]}, trust_env=False)
                break
            except httpx.ConnectError:
                time.sleep(0.1)
        assert answer.json()["result"] == [[{"id": "1", "contents": "Rome\nold"}]]
    finally:
        process.terminate()
        process.wait(10)


def test_a_corpus_that_cannot_be_read_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / "none")])
    assert end.value.code == 1 and "cannot be read" in capsys.readouterr().err
