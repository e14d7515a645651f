"""Which requests are repetitions: the rules, one by one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from askesis.gateway.http.ledger import Ledger, Marks, digest_of
from askesis.gateway.http.refusal import Refusal


class Source:
    """Gives 1, 2, 3, …; waits for the gate when there is one."""

    def __init__(self, gate: asyncio.Event | None = None) -> None:
        self.count = 0
        self.cancelled = 0
        self._gate = gate

    async def __call__(self) -> int:
        self.count += 1
        number = self.count
        try:
            if self._gate is not None:
                await self._gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


def run(check: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(check())  # type: ignore[arg-type]


def marks(body: str = "a", key: str | None = None, count: int | None = None) -> Marks:
    return Marks(digest=body.encode(), key=key, retry_count=count)


async def ask(ledger: Ledger[int], source: Source, given: Marks, *, deliver: bool = True) -> int:
    entry, answer, _ = await ledger.answer(given, source)
    entry.delivered = entry.delivered or deliver
    return answer


def test_a_key_gets_its_answer_at_any_time_and_no_other_body() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=True), Source()
        assert await ask(ledger, source, marks("a", key="k")) == 1
        assert await ask(ledger, source, marks("b")) == 2
        assert await ask(ledger, source, marks("a", key="k")) == 1
        assert await ask(ledger, source, marks("a", key="k2")) == 3
        with pytest.raises(Refusal) as caught:
            await ask(ledger, source, marks("b", key="k"))
        assert caught.value.status == 400

    run(check)


def test_a_counted_first_attempt_is_never_a_repetition() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=True), Source()
        assert [await ask(ledger, source, marks(count=0)) for _ in range(3)] == [1, 2, 3]
        assert await ask(ledger, source, marks(count=1)) == 3
        assert await ask(ledger, source, marks("b", count=1)) == 4

    run(check)


def test_a_counted_retry_gets_the_oldest_answer_that_was_missed() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=True), Source()
        await ask(ledger, source, marks(count=0))
        await ask(ledger, source, marks(count=0), deliver=False)
        await ask(ledger, source, marks(count=0))
        assert await ask(ledger, source, marks(count=1)) == 2

    run(check)


def test_equal_bodies_without_headers_repeat_until_something_else_is_asked() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=True), Source()
        assert await ask(ledger, source, marks("a")) == 1
        assert await ask(ledger, source, marks("a")) == 1
        assert await ask(ledger, source, marks("b")) == 2
        assert await ask(ledger, source, marks("a")) == 3

    run(check)


def test_a_plain_endpoint_does_not_compare_bodies() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=False), Source()
        assert [await ask(ledger, source, marks("a")) for _ in range(2)] == [1, 2]
        assert await ask(ledger, source, marks("a", count=1)) == 2

    run(check)


def test_a_request_joins_one_in_flight_and_survives_the_first_client() -> None:
    async def check() -> None:
        gate = asyncio.Event()
        ledger, source = Ledger[int](by_body=True), Source(gate)
        first = asyncio.create_task(ask(ledger, source, marks()))
        await asyncio.sleep(0)
        second = asyncio.create_task(ask(ledger, source, marks()))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await second == 1 and source.count == 1 and source.cancelled == 0

    run(check)


def test_when_all_clients_have_gone_the_call_is_cancelled_and_forgotten() -> None:
    async def check() -> None:
        gate = asyncio.Event()
        ledger, source = Ledger[int](by_body=True), Source(gate)
        first = asyncio.create_task(ask(ledger, source, marks(count=0)))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(0.01)
        assert source.cancelled == 1
        gate.set()
        assert await ask(ledger, source, marks(count=1)) == 2

    run(check)


def test_a_failure_leaves_nothing_behind() -> None:
    async def check() -> None:
        ledger = Ledger[int](by_body=True)

        async def fail() -> int:
            raise ValueError("once")

        with pytest.raises(ValueError, match="once"):
            await ledger.answer(marks(key="k"), fail)
        assert await ask(ledger, Source(), marks(key="k")) == 1

    run(check)


def test_only_so_many_are_remembered() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=True, capacity=2), Source()
        for name in "abc":
            await ask(ledger, source, marks(name, key=name))
        assert await ask(ledger, source, marks("a", key="a")) == 4
        assert await ask(ledger, source, marks("c", key="c")) == 3

    run(check)


def test_closing_cancels_what_is_open() -> None:
    async def check() -> None:
        ledger, source = Ledger[int](by_body=True), Source(asyncio.Event())
        task = asyncio.create_task(ask(ledger, source, marks()))
        await asyncio.sleep(0.01)
        ledger.close()
        with pytest.raises(Refusal, match="has ended"):
            await task
        assert source.cancelled == 1

    run(check)


def test_digests_compare_json_values_without_how_the_answer_travels() -> None:
    one = json.dumps({"a": 1, "b": 2}).encode()
    two = json.dumps({"b": 2, "stream": True, "stream_options": {}, "a": 1}).encode()
    assert digest_of(one) == digest_of(two) != digest_of(one, "somebody")
    assert digest_of(b'{"a": 1}') != digest_of(b'{"a": 2}')
