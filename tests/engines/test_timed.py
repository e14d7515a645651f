"""Sampling on virtual time: as long as it is said to take, and the same answers."""

from __future__ import annotations

import asyncio

from askesis.clock import VirtualClock
from askesis.engines import Request, Sampling
from askesis.engines.embedded import sample_batch
from askesis.engines.timed import TimedEngine
from askesis.policy.loading import Policy


def request(seed: int, max_tokens: int) -> Request:
    return Request(prefix=(5, 6, 7), sampling=Sampling(max_tokens=max_tokens), stop_ids=(), seed=seed)


def test_a_token_of_the_batch_takes_what_it_is_said_to(tiny: Policy) -> None:
    clock = VirtualClock()
    expected = sample_batch(tiny, [request(0, 3), request(1, 5)])

    async def main() -> tuple[float, float]:
        engine = TimedEngine(tiny, admission="continuous")
        engine.token_s = 0.5
        times = []

        async def one(seed: int, size: int) -> None:
            done = await engine.generate(request(seed, size))
            assert done.tokens == expected[seed].tokens
            times.append(clock.now())

        await asyncio.gather(one(0, 3), one(1, 5))
        await engine.close()
        return times[0], times[1]

    assert clock.run(main()) == (1.5, 2.5)


def test_weights_change_between_two_tokens(tiny: Policy) -> None:
    clock = VirtualClock()

    async def main() -> tuple[tuple[int, int], ...]:
        engine = TimedEngine(tiny, admission="continuous")
        engine.token_s = 1.0
        drawing = asyncio.create_task(engine.generate(request(0, 6)))
        await asyncio.sleep(2.5)
        await engine.swap(4, lambda: None)
        done = await drawing
        await engine.close()
        return done.swaps

    assert clock.run(main()) == ((3, 4),)
