"""Deadlines and failures of foreign code, on virtual time."""

from __future__ import annotations

import asyncio

import pytest

from askesis.clock import VirtualClock
from askesis.rollout.boundary import SessionFailed, failure_of, guarded
from askesis.trace import FailureOrigin

TOOL = FailureOrigin.TOOL


async def value() -> int:
    return 3


async def hang() -> None:
    await asyncio.sleep(1e6)


async def stubborn() -> None:
    for _ in range(5):
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            continue


async def broken() -> None:
    raise KeyError("nothing here")


def test_a_result_comes_through() -> None:
    assert VirtualClock().run(guarded(value, TOOL, timeout_s=1, what="x")) == 3


@pytest.mark.parametrize("call", [hang, stubborn])
def test_a_hang_ends_at_its_deadline_even_if_it_ignores_cancellation(call: object) -> None:
    clock = VirtualClock()

    async def main() -> float:
        with pytest.raises(SessionFailed) as caught:
            await guarded(call, TOOL, timeout_s=5, what="the tool")  # type: ignore[arg-type]
        assert caught.value.failure.kind == "timeout" and caught.value.failure.origin is TOOL
        assert "the tool" in caught.value.failure.message
        return clock.now()

    assert clock.run(main()) == pytest.approx(5)


def test_an_exception_keeps_type_text_and_traceback() -> None:
    with pytest.raises(SessionFailed) as caught:
        asyncio.run(guarded(broken, TOOL, timeout_s=1, what="x"))
    failure = caught.value.failure
    assert failure.kind == "KeyError" and "nothing here" in failure.message and "in broken" in failure.traceback


def test_cancelling_the_caller_cancels_the_call() -> None:
    ended: list[bool] = []

    async def watched() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(True)

    async def main() -> None:
        task = asyncio.create_task(guarded(watched, TOOL, timeout_s=1e7, what="x"))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1)

    VirtualClock().run(main())
    assert ended == [True]


def raises_at_once() -> object:
    raise ValueError("not even async")


def returns_no_awaitable() -> object:
    return 3


async def leaves() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("call", "kind"), [(raises_at_once, "ValueError"), (returns_no_awaitable, "TypeError"), (leaves, "RuntimeError")]
)
def test_code_that_is_not_async_or_leaves_is_a_failure_too(call: object, kind: str) -> None:
    with pytest.raises(SessionFailed) as caught:
        asyncio.run(guarded(call, TOOL, timeout_s=1, what="x"))  # type: ignore[arg-type]
    assert caught.value.failure.kind == kind and caught.value.failure.origin is TOOL


def test_texts_are_bounded_and_storable() -> None:
    failure = failure_of(ValueError("x" * 10_000 + "\ud800"), TOOL)
    assert len(failure.message) < 5_000
    failure.message.encode()
