"""The Prometheus endpoint of a run: what it says, and to whom."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from askesis.errors import AskesisError
from askesis.gateway.http.listening import listen
from askesis.training.progress import Phase, StepEvent
from small_run import small, start

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")
httpx = pytest.importorskip("httpx")

from askesis.training.observe.endpoint import RunMetrics, check_endpoint, serving  # noqa: E402


def told() -> RunMetrics:
    metrics = RunMetrics("R")
    metrics.stage("training")
    metrics.step(StepEvent(step=1, steps=9, values={"reward_mean": 0.25, "time_sampling_s": 2.0, "failures": 1.0}))
    metrics.step(StepEvent(step=2, steps=9, values={"reward_mean": 0.5, "time_sampling_s": 3.0, "failures": 2.0}))
    metrics.step(StepEvent(step=2, steps=9, values={"held_out_accuracy": 0.75}, phase=Phase.EVALUATE))
    metrics.tick("sessions")
    return metrics


def test_what_a_scraper_reads() -> None:
    lines = told().text().decode().splitlines()
    expected = [
        'askesis_run_info{run="R"} 1.0',
        "askesis_step 2.0",
        "askesis_steps_planned 9.0",
        "askesis_steps_total 2.0",
        "askesis_failed_sessions_total 3.0",
        'askesis_last{metric="reward_mean"} 0.5',
        'askesis_last{metric="held_out_accuracy"} 0.75',
        'askesis_phase_seconds_total{phase="sampling"} 5.0',
    ]
    assert [line for line in expected if line not in lines] == []
    assert any(line.startswith("askesis_last_event_timestamp_seconds 1.") for line in lines)


async def ask(host: str, headers: dict[str, str], path: str = "/metrics") -> tuple[int, str]:
    async with serving(told(), host, 0) as url, httpx.AsyncClient() as client:
        answer = await client.get(url.replace("0.0.0.0", "127.0.0.1") + path, headers=headers)
        return answer.status_code, answer.text


def test_on_loopback_it_answers_to_its_own_names_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASKESIS_TOKEN", raising=False)
    status, text = asyncio.run(ask("127.0.0.1", {}))
    assert status == 200 and "askesis_step 2.0" in text
    assert asyncio.run(ask("127.0.0.1", {"host": "evil.example"}))[0] == 400  # a web page with a borrowed name
    assert asyncio.run(ask("127.0.0.1", {}, "/"))[0] == 404


def test_beyond_loopback_it_wants_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASKESIS_TOKEN", raising=False)
    with pytest.raises(AskesisError, match="needs a token"):
        check_endpoint("0.0.0.0", 9100)
    monkeypatch.setenv("ASKESIS_TOKEN", "s3cret")
    check_endpoint("0.0.0.0", 9100)
    assert asyncio.run(ask("0.0.0.0", {}))[0] == 401
    assert asyncio.run(ask("0.0.0.0", {"authorization": "Bearer wrong"}))[0] == 401
    status, text = asyncio.run(ask("0.0.0.0", {"authorization": "Bearer s3cret"}))
    assert status == 200 and "s3cret" not in text


def test_a_run_refuses_a_public_address_before_anything_is_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASKESIS_TOKEN", raising=False)
    with pytest.raises(AskesisError, match="needs a token"):
        start(small(tiny_folder, tmp_path / "run", "observe.metrics_port=9100", "observe.metrics_host=0.0.0.0"))
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_taken_is_said_with_its_number() -> None:
    async def serve(port: int) -> None:
        async with serving(told(), "127.0.0.1", port):
            raise AssertionError("two servers on one port")

    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AskesisError, match="address cannot be used") as caught:
            asyncio.run(serve(port))
    assert str(port) in str(caught.value)


def test_a_port_of_zero_asks_for_nothing() -> None:
    check_endpoint("0.0.0.0", 0)
