"""Asynchronous code for synchronous callers."""

from __future__ import annotations

import asyncio
import threading

import pytest

from askesis.environments.adapters.blocking import LoopThread


async def answer(value: int) -> tuple[int, str]:
    await asyncio.sleep(0)
    return value, threading.current_thread().name


def test_it_runs_in_one_thread_of_its_own() -> None:
    loop = LoopThread("test-loop")
    assert [loop.run(answer(i)) for i in range(2)] == [(0, "test-loop"), (1, "test-loop")]
    loop.stop()
    assert loop.run(answer(2)) == (2, "test-loop")
    loop.stop()
    loop.stop()


def test_what_is_raised_is_raised() -> None:
    async def fail() -> None:
        raise KeyError("x")

    loop = LoopThread("test-loop")
    with pytest.raises(KeyError, match="x"):
        loop.run(fail())
    with pytest.raises(TimeoutError):
        loop.run(asyncio.sleep(60), timeout_s=0.01)
    loop.stop()


def test_a_caller_in_another_loop_goes_on_and_can_give_up() -> None:
    loop = LoopThread("test-loop")
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def caller() -> tuple[int, str]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await loop.awaited(wait())
        return await loop.awaited(answer(7))

    assert asyncio.run(caller()) == (7, "test-loop")
    assert cancelled.wait(5)
    loop.stop()
