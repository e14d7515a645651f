"""Which requests are repetitions, so that a retry gets the recorded answer and not a second sample.

A request is a repetition of an earlier one

1. if it carries the same ``Idempotency-Key`` (with another body it is refused), or
2. if ``X-Stainless-Retry-Count`` says so (OpenAI's clients send it: 0 for a first attempt) and its body is the same;
   of several equal bodies the oldest whose answer was not delivered, otherwise the newest, or
3. if it has neither header, its body is the same, and that earlier request is still being answered, or was answered
   and nothing has been asked since. Only sessions follow this third rule: behind a plain endpoint, equal questions may
   come from different people.

Bodies are compared as JSON values, ``stream`` and ``stream_options`` aside. So a script that asks the same question
several times through OpenAI's client gets as many answers. A request that failed leaves nothing behind: the next
attempt samples. When everybody who waits for an answer has gone, it is cancelled and nothing is recorded.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from askesis.gateway.http.refusal import Refusal

__all__ = ["Ledger", "Marks", "Recorded", "digest_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What tells repetitions apart. ``retry_count`` is None when the client does not count."""

    digest: bytes
    key: str | None = None
    retry_count: int | None = None


def digest_of(body: bytes, scope: str = "") -> bytes:
    """SHA-256 of a JSON body without how the answer travels; ``scope`` keeps clients apart."""
    document = json.loads(body)
    for name in ("stream", "stream_options"):
        document.pop(name, None)
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise Refusal(400, "malformed", "the body is nested too deeply") from None
    return hashlib.sha256(f"{scope}\n{text}".encode("utf-8", "surrogatepass")).digest()


@dataclass(slots=True, eq=False)
class Recorded(Generic[T]):
    """One request and its answer. Set ``delivered`` once a client has got it."""

    marks: Marks
    task: asyncio.Task[T]
    waiters: int = 0
    delivered: bool = False


class Ledger(Generic[T]):
    """The requests of a session, or the latest of a plain endpoint.

    Args:
        by_body: follow the third rule.
        capacity: how many are remembered.
    """

    def __init__(self, *, by_body: bool, capacity: int = 4096) -> None:
        self._by_body = by_body
        self._capacity = capacity
        self._entries: dict[int, Recorded[T]] = {}  # by identity, oldest first
        self._by_digest: dict[bytes, list[Recorded[T]]] = {}
        self._by_key: dict[str, Recorded[T]] = {}
        self._closed = False

    async def answer(self, marks: Marks, begin: Callable[[], Coroutine[Any, Any, T]]) -> tuple[Recorded[T], T, bool]:
        """The answer to a request, from ``begin`` unless it is a repetition; the last value says that it is.

        Raises Refusal for a key that was used with another body, and whatever ``begin`` raises.
        """
        entry = self._find(marks)
        repeated = entry is not None
        if entry is None:
            entry = Recorded(marks=marks, task=asyncio.create_task(begin()))
            self._add(entry)
        entry.waiters += 1
        try:
            answer = await asyncio.shield(entry.task)
        except asyncio.CancelledError:
            self._drop_failed(entry)
            if self._closed:
                raise Refusal(404, "session_closed", "the session has ended") from None
            raise
        except Exception:
            self._drop_failed(entry)
            raise
        finally:
            entry.waiters -= 1
            if not entry.waiters and not entry.task.done():
                self._drop(entry)
                entry.task.cancel()
        return entry, answer, repeated

    def close(self) -> None:
        """Cancel what is being answered; those who wait are told that the session has ended."""
        self._closed = True
        for entry in self._entries.values():
            entry.task.cancel()

    def _add(self, entry: Recorded[T]) -> None:
        self._entries[id(entry)] = entry
        self._by_digest.setdefault(entry.marks.digest, []).append(entry)
        if entry.marks.key is not None:
            self._by_key[entry.marks.key] = entry
        if len(self._entries) > self._capacity:
            self._drop(next(iter(self._entries.values())))

    def _drop_failed(self, entry: Recorded[T]) -> None:
        if entry.task.done() and (entry.task.cancelled() or entry.task.exception() is not None):
            self._drop(entry)

    def _drop(self, entry: Recorded[T]) -> None:
        if self._entries.pop(id(entry), None) is None:
            return
        same = self._by_digest[entry.marks.digest]
        same.remove(entry)
        if not same:
            del self._by_digest[entry.marks.digest]
        if entry.marks.key is not None:
            del self._by_key[entry.marks.key]

    def _find(self, marks: Marks) -> Recorded[T] | None:
        if marks.key is not None:
            known = self._by_key.get(marks.key)
            if known is not None and known.marks.digest != marks.digest:
                raise Refusal(400, "idempotency_key_reused", "this Idempotency-Key was used for another request")
            return known
        same = self._by_digest.get(marks.digest)
        if not same:
            return None
        if marks.retry_count is None:
            newest = same[-1]
            is_open = not newest.task.done() or newest is next(reversed(self._entries.values()))
            return newest if self._by_body and is_open else None
        if marks.retry_count == 0:
            return None
        missed = [e for e in same if not e.delivered and not e.waiters]
        return missed[0] if missed else same[-1]
