"""The seam: what the embedded engine promises, over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from askesis.engines import Completion, Remote, Request, Sampling, TracksSessions
from askesis.engines.embedded import sample_batch
from askesis.engines.vllm import VllmEngine
from askesis.errors import ContextOverflow, EngineError
from askesis.policy.loading import Policy, weights_hash
from askesis.recipe.schema import VllmSection
from fake_vllm import FakeProcess, FakeVllm, fakes

Main = Callable[[VllmEngine], Awaitable[Any]]


@pytest.fixture
def pair(tiny: Policy) -> Iterator[list[FakeVllm]]:
    with fakes(tiny, 2) as servers:
        yield servers


def request(number: int, **sampling: Any) -> Request:
    drawn = Sampling(**{"max_tokens": 6, **sampling})
    return Request(prefix=(40, 41, 42 + number), sampling=drawn, stop_ids=(257,), seed=number, session=f"s{number}")


def run(policy: Policy, folder: Path, main: Main, *, launch: Any = None, **settings: Any) -> Any:
    """Start the engine, run ``main`` with it, and close it."""

    async def all_of_it() -> Any:
        section = VllmSection(**settings)
        engine = VllmEngine(policy, section, max_batch=8, context_length=256, folder=folder, launch=launch)
        try:
            await engine.start()
            return await main(engine)
        finally:
            await engine.close()

    return asyncio.run(all_of_it())


def urls(servers: list[FakeVllm]) -> list[str]:
    return [server.url for server in servers]


def change(policy: Policy) -> None:
    with torch.no_grad():
        policy.model.model.norm.weight += 0.01


SAMPLING: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"top_p": 0.6},
    {"top_k": 3, "temperature": 2.0},
    {"temperature": 0.0},
]


def test_answers_are_those_of_the_distribution_asked_for(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    requests = [request(3 * i + j, **sampling) for i, sampling in enumerate(SAMPLING) for j in range(3)]

    async def main(engine: VllmEngine) -> list[Completion]:
        assert isinstance(engine, Remote) and isinstance(engine, TracksSessions)
        return list(await asyncio.gather(*(engine.generate(r) for r in requests)))

    found = run(tiny, tmp_path, main, urls=urls(pair))
    for done, own in zip(found, sample_batch(tiny, requests), strict=True):
        assert done.tokens == own.tokens and done.finish == own.finish and done.version == 0
        assert done.logprobs == pytest.approx(own.logprobs, abs=1e-5)


def test_new_weights_reach_every_server_before_the_next_answer(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path
) -> None:
    async def main(engine: VllmEngine) -> None:
        assert engine.weights_hash() == weights_hash(tiny.model) and engine.version == 0
        change(tiny)
        engine.publish(5)
        done = await engine.generate(request(0))  # delivers what was published
        assert done.version == engine.version == 5
        assert done.tokens == sample_batch(tiny, [request(0)])[0].tokens
        assert engine.weights_hash() == weights_hash(tiny.model)
        change(tiny)
        assert engine.weights_hash() != weights_hash(tiny.model)  # changed, and not published
        engine.publish(6)
        assert engine.weights_hash() == weights_hash(tiny.model)
        await engine.deliver()
        assert engine.metrics["engine_update_seconds"] > 0 and engine.metrics["engine_gap"] < 1e-5
        assert [p.name for p in (tmp_path / "weights").iterdir()] == ["v00000006"]

    run(tiny, tmp_path, main, urls=urls(pair))
    assert not (tmp_path / "weights").exists()


def test_the_same_version_with_other_weights_is_delivered_too(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path
) -> None:
    async def main(engine: VllmEngine) -> None:  # members of a population
        for _ in range(3):
            change(tiny)
            engine.publish(0)
            assert (await engine.generate(request(1))).tokens == sample_batch(tiny, [request(1)])[0].tokens

    run(tiny, tmp_path, main, urls=urls(pair))


def test_stale_weights_are_an_error_that_names_the_server(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    async def main(engine: VllmEngine) -> None:
        pair[0].keeps_old_weights = True
        change(tiny)
        engine.publish(1)
        for attempt in (engine.deliver(), engine.generate(request(0))):  # it does not heal by asking again
            with pytest.raises(EngineError, match="before the last update") as caught:
                await attempt
            assert pair[0].url in str(caught.value)

    run(tiny, tmp_path, main, urls=urls(pair))


def test_a_session_stays_where_it_is(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    async def main(engine: VllmEngine) -> None:
        for server in pair:
            server.requests.clear()
        for _ in range(3):
            await asyncio.gather(*(engine.generate(request(i)) for i in range(8)))

    run(tiny, tmp_path, main, urls=urls(pair))
    seeds = [[r["sampling_params"]["seed"] for r in server.requests] for server in pair]
    assert not set(seeds[0]) & set(seeds[1]) and len(seeds[0]) + len(seeds[1]) == 24
    assert all(seeds)


def test_sessions_of_a_dead_server_move_and_lose_nothing(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    requests = [request(i) for i in range(8)]

    async def main(engine: VllmEngine) -> list[Completion]:
        await asyncio.gather(*(engine.generate(r) for r in requests))
        engine.leave("s0")
        kept = len(pair[0].requests)
        pair[0].stop()
        found = list(await asyncio.gather(*(engine.generate(r) for r in requests)))
        assert 1 <= engine.metrics["engine_sessions_moved"] <= 7 and engine.metrics["engine_repeated"] >= 1
        assert len(pair[0].requests) == kept
        assert engine.capabilities.kernel == "vllm 0.32.0, 2 replicas"
        return found

    found = run(tiny, tmp_path, main, urls=urls(pair))
    assert [d.tokens for d in found] == [d.tokens for d in sample_batch(tiny, requests)]


def test_a_server_that_hangs_is_found_although_it_is_alive(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("askesis.engines.vllm.engine._WORK_S", 0.5)

    async def main(engine: VllmEngine) -> None:
        pair[0].hangs = True
        found = await asyncio.gather(*(engine.generate(request(i)) for i in range(8)))
        assert len(found) == 8 and engine.metrics["engine_sessions_moved"] > 0

    run(tiny, tmp_path, main, urls=urls(pair), request_timeout_s=2.0)


def test_one_answer_that_takes_too_long_costs_no_server(
    tiny: Policy, pair: list[FakeVllm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(engine: VllmEngine) -> None:
        for server in pair:
            generate = server._generate

            async def slow(body: Any, generate: Any = generate) -> Any:
                if body["sampling_params"]["max_tokens"] > 1:
                    await asyncio.sleep(60)
                return await generate(body)

            monkeypatch.setattr(server, "_generate", slow)
        with pytest.raises(EngineError, match="does not answer") as caught:
            await engine.generate(request(0))
        assert "request_timeout_s" in str(caught.value)
        assert engine.metrics["engine_sessions_moved"] == 0

    run(tiny, tmp_path, main, urls=urls(pair), request_timeout_s=0.5)


def test_a_request_that_fails_everywhere_costs_no_server(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    async def main(engine: VllmEngine) -> None:
        for server in pair:
            server.break_answer = lambda answer: {"choices": []}
        with pytest.raises(EngineError, match="without token ids"):
            await engine.generate(request(0))
        for server in pair:
            server.break_answer = None
        assert await engine.generate(request(0))

    run(tiny, tmp_path, main, urls=urls(pair))


def test_the_only_server_is_started_again_and_holds_the_present_weights(
    tiny: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASKESIS_VLLM_KEY", "a key for tests")
    started: list[FakeProcess] = []
    original = replace(tiny, model=__import__("copy").deepcopy(tiny.model))

    def launch(index: int) -> Any:
        started.append(FakeProcess(original, tmp_path / "log"))  # a server starts with the weights on disk
        return started[-1]

    async def main(engine: VllmEngine) -> None:
        change(tiny)
        engine.publish(1)
        await engine.deliver()
        started[0].kill()
        found = await asyncio.gather(*(engine.generate(request(i)) for i in range(4)))
        own = sample_batch(tiny, [request(i) for i in range(4)])
        assert [d.tokens for d in found] == [d.tokens for d in own]
        assert len(started) == 2 and engine.metrics["engine_restarts"] == 1
        assert engine.weights_hash() == weights_hash(tiny.model)

    run(tiny, tmp_path, main, launch=launch)
    assert not any(process.is_alive for process in started)


def test_weights_wait_for_answers_that_are_under_way(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    async def main(engine: VllmEngine) -> None:
        pair[0].hangs = pair[1].hangs = True
        answer = asyncio.create_task(engine.generate(request(0)))
        await asyncio.sleep(0.05)
        change(tiny)
        engine.publish(1)
        patient = engine._settings
        engine._settings = patient.model_copy(update={"request_timeout_s": 0.2})
        with pytest.raises(EngineError, match="answers are still being sampled"):
            await engine.deliver()
        engine._settings = patient
        answer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await answer
        pair[0].hangs = pair[1].hangs = False
        assert (await engine.generate(request(0))).version == 1

    run(tiny, tmp_path, main, urls=urls(pair))


def test_what_does_not_fit_is_refused_before_it_is_sent(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    async def main(engine: VllmEngine) -> None:
        sent = len(pair[0].requests) + len(pair[1].requests)
        with pytest.raises(ContextOverflow, match="does not fit"):
            await engine.generate(replace(request(0), prefix=(5,) * 251))
        with pytest.raises(EngineError, match="an id that the model does not know"):
            await engine.generate(replace(request(0), prefix=(5, 999)))
        assert len(pair[0].requests) + len(pair[1].requests) == sent

    run(tiny, tmp_path, main, urls=urls(pair))


def test_an_engine_that_was_closed_or_never_started(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    engine = VllmEngine(tiny, VllmSection(urls=urls(pair)), max_batch=8, context_length=256, folder=tmp_path)
    with pytest.raises(EngineError, match="has not been started"):
        engine.weights_hash()
    with pytest.raises(EngineError, match="has not been started"):
        asyncio.run(engine.generate(request(0)))

    async def main(engine: VllmEngine) -> VllmEngine:
        return engine

    closed = run(tiny, tmp_path, main, urls=urls(pair))
    with pytest.raises(EngineError, match="closed"):
        asyncio.run(closed.generate(request(0)))


def test_a_folder_for_weights_that_is_missing_is_named(tiny: Policy, pair: list[FakeVllm], tmp_path: Path) -> None:
    async def main(engine: VllmEngine) -> None:
        assert len(list(tmp_path.glob("askesis-weights-*/v00000000"))) == 1

    run(tiny, tmp_path, main, urls=urls(pair), weights_dir=str(tmp_path))
    assert list(tmp_path.glob("askesis-weights-*")) == []
    with pytest.raises(EngineError, match="folder for weights") as caught:
        run(tiny, tmp_path, main, urls=urls(pair), weights_dir=str(tmp_path / "absent"))
    assert caught.value.where == "engine.vllm.weights_dir"
