"""The system clock and virtual time."""

from __future__ import annotations

import asyncio
import time

import pytest

from askesis.clock import SystemClock, VirtualClock


def test_the_system_clock_is_unix_time() -> None:
    assert abs(SystemClock().now() - time.time()) < 5.0


def test_a_virtual_day_takes_no_time() -> None:
    clock = VirtualClock(start=100.0)

    async def main() -> str:
        await asyncio.sleep(86_400)
        return "slept"

    started = time.monotonic()
    assert clock.run(main()) == "slept"
    assert clock.now() == pytest.approx(86_500.0, abs=0.1)
    assert time.monotonic() - started < 5.0


def test_a_timeout_fires_at_its_virtual_moment() -> None:
    clock = VirtualClock()

    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.sleep(3600)
        return clock.now()

    assert clock.run(main()) == pytest.approx(30.0, abs=0.1)


def test_sleepers_wake_in_the_order_of_their_times() -> None:
    clock = VirtualClock()
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, round(clock.now())))

    async def main() -> None:
        await asyncio.gather(sleeper("late", 50), sleeper("early", 5), sleeper("middle", 20))

    clock.run(main())
    assert woken == [("early", 5), ("middle", 20), ("late", 50)]


def test_what_is_ready_runs_before_time_moves() -> None:
    clock = VirtualClock()

    async def main() -> float:
        async with asyncio.timeout(1):
            for _ in range(1000):
                await asyncio.sleep(0)
        return clock.now()

    assert clock.run(main()) == 0.0


def test_time_never_runs_back() -> None:
    clock = VirtualClock()
    clock.advance(2.5)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
    assert clock.now() == 2.5


def test_errors_come_out_and_the_clock_can_run_again() -> None:
    clock = VirtualClock()

    async def broken() -> None:
        await asyncio.sleep(1)
        raise KeyError("x")

    with pytest.raises(KeyError):
        clock.run(broken())
    assert clock.run(asyncio.sleep(1, "again")) == "again"
    assert clock.now() == pytest.approx(2.0, abs=0.1)
