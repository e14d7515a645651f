"""The embedded engine against the model itself, token by token."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import torch

from askesis.engines import Completion, Request, Sampling, Swaps, TracksSessions
from askesis.engines.decoder import FusedDecoder
from askesis.engines.embedded import EmbeddedEngine, sample_batch
from askesis.engines.scheduler import Call, Scheduler
from askesis.errors import ContextOverflow, EngineError
from askesis.policy.loading import Policy, load_policy, weights_hash
from tiny_model import write_tiny_model

PROMPTS = [(5, 6, 7), (5, 6, 7), (9,), (11, 12, 13, 14, 15)]


def request(prefix: tuple[int, ...], seed: int, **sampling: float) -> Request:
    return Request(prefix=prefix, sampling=Sampling(max_tokens=12, **sampling), stop_ids=(1,), seed=seed)  # type: ignore[arg-type]


def model_logprobs(policy: Policy, prefix: tuple[int, ...], tokens: tuple[int, ...], temperature: float) -> list[float]:
    """The oracle: one plain forward pass over the whole sequence."""
    ids = torch.tensor([[*prefix, *tokens]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, len(prefix) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma"])
def test_logprobs_are_the_models_own(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    policy = load_policy(
        str(write_tiny_model(tmp_path_factory.mktemp(architecture), architecture=architecture)), device="cpu"
    )
    requests = [
        request(p, seed, temperature=t) for seed, (p, t) in enumerate(zip(PROMPTS, (1.0, 0.7, 1.3, 1.0), strict=True))
    ]
    for one, done in zip(requests, sample_batch(policy, requests), strict=True):
        expected = model_logprobs(policy, one.prefix, done.tokens, one.sampling.temperature)
        assert done.logprobs == pytest.approx(expected, abs=1e-4)


def test_an_answer_does_not_depend_on_the_batch(tiny: Policy) -> None:
    requests = [request(p, seed) for seed, p in enumerate(PROMPTS)]
    together = sample_batch(tiny, requests)
    alone = [sample_batch(tiny, [one])[0] for one in requests]
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    reversed_batch = sample_batch(tiny, requests[::-1])[::-1]
    assert [c.tokens for c in together] == [c.tokens for c in reversed_batch]


def test_the_seed_decides(tiny: Policy) -> None:
    first, again, other = sample_batch(tiny, [request((5, 6), 1), request((5, 6), 1), request((5, 6), 2)])
    assert first.tokens == again.tokens != other.tokens


def test_greedy_takes_the_most_probable_and_has_logprob_zero(tiny: Policy) -> None:
    done = sample_batch(tiny, [request((5, 6), 3, temperature=0.0)])[0]
    ids = torch.tensor([[5, 6, *done.tokens]])
    with torch.no_grad():
        best = tiny.model(input_ids=ids).logits[0, 1:-1].argmax(-1)
    assert list(done.tokens) == best.tolist()
    assert set(done.logprobs) == {0.0}


def test_answers_end_at_a_stop_token_or_at_the_limit(tiny: Policy) -> None:
    requests = [
        Request(prefix=(5, i), sampling=Sampling(max_tokens=40), stop_ids=tuple(range(64)), seed=i) for i in range(30)
    ]
    for done in sample_batch(tiny, requests):
        inside = [t in requests[0].stop_ids for t in done.tokens]
        assert not any(inside[:-1])
        assert done.finish == ("stop" if inside[-1] else "length")
        assert inside[-1] or len(done.tokens) == 40
    endings = {c.finish for c in sample_batch(tiny, [request((5, i), i) for i in range(20)])}
    assert "length" in endings


def test_a_prompt_longer_than_the_context_is_refused(tiny: Policy) -> None:
    async def main() -> None:
        await EmbeddedEngine(tiny).generate(request(tuple(range(250)), 0))

    with pytest.raises(ContextOverflow, match="does not fit"):
        asyncio.run(main())


def test_an_id_that_the_model_does_not_know_is_refused(tiny: Policy) -> None:
    for prefix in ((5, 100_000), (-1,)):
        with pytest.raises(EngineError, match="does not know"):
            sample_batch(tiny, [request(prefix, 0)])


def test_a_sliding_window_may_not_be_exceeded(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Gemma3Text", head_dim=8, sliding_window=32)
    assert len(sample_batch(policy, [request((5,) * 20, 0)])[0].tokens) <= 12
    with pytest.raises(EngineError, match="sliding attention window"):
        sample_batch(policy, [request((5,) * 21, 0)])


def test_broken_weights_are_an_error_and_the_engine_lives_on(tiny: Policy) -> None:
    weight = tiny.model.get_input_embeddings().weight
    saved = weight.detach().clone()

    async def main() -> None:
        engine = EmbeddedEngine(tiny)
        with torch.no_grad():
            weight.fill_(math.nan)
        with pytest.raises(EngineError, match="not finite"):
            await engine.generate(request((5, 6), 0))
        with torch.no_grad():
            weight.copy_(saved)
        assert (await engine.generate(request((5, 6), 0))).tokens
        await engine.close()

    asyncio.run(main())


def test_sampling_parameters_out_of_range_are_refused() -> None:
    for bad in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_tokens": 0}):
        with pytest.raises(EngineError, match="out of range"):
            Sampling(**bad)  # type: ignore[arg-type]


def run(policy: Policy, main: Callable[[EmbeddedEngine], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    """Run ``main`` with an engine that is closed afterwards."""

    async def inside() -> Any:
        engine = EmbeddedEngine(policy, **options)
        try:
            async with asyncio.timeout(60):
                return await main(engine)
        finally:
            await engine.close()

    return asyncio.run(inside())


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Seeds of the calls that were handed over together."""
    seen: list[list[int]] = []
    submit = Scheduler.submit

    def noting(self: Scheduler, calls: list[Call]) -> None:
        seen.append([call.request.seed for call in calls])
        submit(self, calls)

    monkeypatch.setattr(Scheduler, "submit", noting)
    return seen


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """While this is cleared, sampling stops before the next token but the first."""
    event, step = threading.Event(), FusedDecoder.step
    event.set()  # the engine probes its decoder when it is made

    def waiting(self: FusedDecoder, *given: Any) -> torch.Tensor:
        assert event.wait(30)
        return step(self, *given)

    monkeypatch.setattr(FusedDecoder, "step", waiting)
    return event


def asked(session: str, seed: int, prefix: tuple[int, ...] = (5, 6)) -> Request:
    return Request(prefix=prefix, sampling=Sampling(max_tokens=6), stop_ids=(), seed=seed, session=session)


def test_requests_that_arrive_together_are_one_batch_in_an_order_of_their_own(
    tiny: Policy, batches: list[list[int]]
) -> None:
    async def main(engine: EmbeddedEngine) -> list[Completion]:
        engine.publish(4)
        return await asyncio.gather(*(engine.generate(request((5, 6), seed)) for seed in (7, 3, 5, 0)))

    done = run(tiny, main, max_batch=3)
    assert batches[-1] == [0, 3, 5, 7]
    assert {c.version for c in done} == {4}
    assert [c.tokens for c in done] == [sample_batch(tiny, [request((5, 6), s)])[0].tokens for s in (7, 3, 5, 0)]


def test_the_engine_says_what_it_is(tiny: Policy) -> None:
    engine = EmbeddedEngine(tiny)
    assert isinstance(engine, TracksSessions)
    assert engine.capabilities.token_exact and engine.capabilities.kernel == "fused"
    assert engine.weights_hash() == weights_hash(tiny.model)
    asyncio.run(engine.close())


def test_lockstep_waits_for_every_open_session(tiny: Policy, batches: list[list[int]]) -> None:
    async def session(engine: EmbeddedEngine, name: str, delays: list[float]) -> None:
        for turn, delay in enumerate(delays):
            await asyncio.sleep(delay)
            await engine.generate(asked(name, 10 * int(name) + turn))
        engine.leave(name)

    async def main(engine: EmbeddedEngine) -> None:
        for name in ("1", "2", "3", "4"):
            engine.enter(name)
        engine.leave("4")  # never calls
        delays = {"1": [0.0, 0.03, 0.0], "2": [0.05, 0.0], "3": [0.01]}
        await asyncio.gather(*(session(engine, *item) for item in delays.items()))

    run(tiny, main)
    assert [b for b in batches if b != [0, 1, 2, 3]] == [[10, 20, 30], [11, 21], [12]]


def test_calls_from_outside_do_not_wait_for_sessions(tiny: Policy, batches: list[list[int]]) -> None:
    async def main(engine: EmbeddedEngine) -> None:
        engine.enter("1")
        engine.enter("2")
        inside = asyncio.create_task(engine.generate(asked("1", 1)))
        await engine.generate(asked("", 7))  # perhaps from the environment of session 2
        assert not inside.done()
        engine.leave("2")
        await inside

    run(tiny, main)
    assert batches[-2:] == [[7], [1]]


def test_a_session_that_forks_waits_with_any_of_its_calls(tiny: Policy, batches: list[list[int]]) -> None:
    async def main(engine: EmbeddedEngine) -> None:
        engine.enter("1")
        engine.enter("2")
        first = asyncio.gather(engine.generate(asked("1", 11)), engine.generate(asked("1", 12)))
        await asyncio.sleep(0.02)
        assert not first.done()
        await engine.generate(asked("2", 20))
        await first

    run(tiny, main)
    assert batches[-1] == [11, 12, 20]


def test_a_call_joins_a_running_batch_at_the_next_token(tiny: Policy, paused: threading.Event) -> None:
    async def main(engine: EmbeddedEngine) -> list[Completion]:
        expected = [(await engine.generate(asked("", seed))).tokens for seed in (1, 2)]
        paused.clear()
        first = asyncio.create_task(engine.generate(asked("", 1)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(engine.generate(asked("", 2)))
        await asyncio.sleep(0.05)
        sizes: list[int] = []
        step = FusedDecoder.step

        def noting(self: FusedDecoder, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
            sizes.append(len(ids))
            return step(self, ids, *rest)

        FusedDecoder.step = noting  # type: ignore[method-assign]
        paused.set()
        done = [(await first).tokens, (await second).tokens]
        FusedDecoder.step = step  # type: ignore[method-assign]
        assert sizes == [1, 2, 2, 2, 1, 1] and done == expected  # its prompt is read beside the first of these
        return []

    run(tiny, main, admission="continuous")


def test_a_cancelled_call_leaves_and_the_others_go_on(tiny: Policy, paused: threading.Event) -> None:
    async def main(engine: EmbeddedEngine) -> None:
        paused.clear()
        running = [asyncio.create_task(engine.generate(asked("", seed))) for seed in range(3)]
        await asyncio.sleep(0.05)
        late = asyncio.create_task(engine.generate(asked("", 9)))
        await asyncio.sleep(0)
        running[1].cancel()
        late.cancel()
        paused.set()
        results = await asyncio.gather(*running, late, return_exceptions=True)
        assert [type(r) for r in results] == [Completion, asyncio.CancelledError, Completion, asyncio.CancelledError]
        assert results[2].tokens == (await engine.generate(asked("", 2))).tokens  # type: ignore[union-attr]

    run(tiny, main)


@pytest.mark.parametrize("admission", ["lockstep", "continuous"])
def test_closing_while_it_works_fails_every_call(tiny: Policy, paused: threading.Event, admission: str) -> None:
    async def main() -> None:
        engine = EmbeddedEngine(tiny, max_batch=1, admission=admission)  # type: ignore[arg-type]
        paused.clear()
        calls = [asyncio.create_task(engine.generate(asked("", seed))) for seed in range(2)]
        await asyncio.sleep(0.05)
        calls.append(asyncio.create_task(engine.generate(asked("", 5))))
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.05, paused.set)
        await engine.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [str(r) for r in results] == ["the engine is closed"] * 3
        with pytest.raises(EngineError, match="closed"):
            await engine.generate(asked("", 1))
        await engine.close()

    asyncio.run(main())


def test_publishing_while_it_works_takes_effect_after_the_rows_that_run(tiny: Policy, paused: threading.Event) -> None:
    async def main(engine: EmbeddedEngine) -> None:
        paused.clear()
        before = asyncio.create_task(engine.generate(asked("", 1)))
        await asyncio.sleep(0.05)
        engine.publish(2)
        after = asyncio.create_task(engine.generate(asked("", 1)))
        paused.set()
        assert ((await before).version, (await after).version) == (0, 2)
        assert engine.version == 2

    run(tiny, main, admission="continuous")


def test_a_failing_model_fails_its_calls_with_the_cause_and_the_engine_lives_on(
    tiny: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("out of memory")

    async def main(engine: EmbeddedEngine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(FusedDecoder, "read", broken)
            results = await asyncio.gather(*(engine.generate(asked("", s)) for s in (1, 2)), return_exceptions=True)
        assert all(isinstance(r, EngineError) and "out of memory" in str(r) for r in results)
        assert len((await engine.generate(asked("", 1))).tokens) == 6

    run(tiny, main)


def test_whatever_goes_wrong_in_the_thread_nobody_waits_for_ever(tiny: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    async def main(engine: EmbeddedEngine) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Scheduler, "_next_calls", broken)
            with pytest.raises(EngineError, match="a mistake"):
                await engine.generate(asked("", 1))
        assert len((await engine.generate(asked("", 1))).tokens) == 6

    run(tiny, main)


def test_weights_change_while_answers_are_drawn(tiny: Policy) -> None:
    """The change happens in the engine's thread, between two tokens, and what waits for it sees its failure."""

    async def scenario() -> tuple[Completion, int, int]:
        engine = EmbeddedEngine(tiny, admission="continuous")
        seen: list[int] = []
        one = Request(prefix=(5, 6), sampling=Sampling(max_tokens=200), stop_ids=(), seed=0)
        drawing = asyncio.create_task(engine.generate(one))
        while not engine._busy:
            await asyncio.sleep(0)
        await engine.swap(3, lambda: seen.append(threading.get_ident()))
        assert engine.version == 3 and not drawing.done()
        with pytest.raises(ZeroDivisionError):
            await engine.swap(4, lambda: seen.append(1 // 0))
        assert engine.version == 3
        done = await drawing
        await engine.swap(5, lambda: None)  # while it rests
        last = await engine.generate(Request(prefix=(5,), sampling=Sampling(max_tokens=1), stop_ids=(), seed=0))
        await engine.close()
        assert seen != [threading.get_ident()]
        return done, engine.version, last.version

    done, version, last = asyncio.run(scenario())
    assert (version, last) == (5, 5)
    assert done.version == 0 and len(done.tokens) == 200
    assert [v for _, v in done.swaps] == [3] and 0 < done.swaps[0][0] < 200


def test_an_engine_that_can_says_so(tiny: Policy) -> None:
    assert isinstance(EmbeddedEngine(tiny), Swaps)
