"""Calls into foreign code: a deadline for each, and every failure as data with its origin."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from askesis.trace import Failure, FailureOrigin

__all__ = ["FOREIGN_CODE", "SessionFailed", "failure_of", "guarded", "run_foreign"]

T = TypeVar("T")
_MAX_TEXT = 4000


class SessionFailed(Exception):
    """A session cannot go on. Internal: it ends as a :class:`askesis.trace.Failure` in the store, never as a crash."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failure_of(error: BaseException, origin: FailureOrigin) -> Failure:
    """An exception as a record, its texts cut to a bounded length."""
    return Failure(
        origin=origin,
        kind=type(error).__name__,
        message=_bounded(str(error)),
        traceback=_bounded("".join(traceback.format_exception(error))),
    )


def _bounded(text: str) -> str:
    kept = text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}… ({len(text)} characters)"
    return kept.encode("utf-8", "backslashreplace").decode()


async def guarded(call: Callable[[], Awaitable[T]], origin: FailureOrigin, *, timeout_s: float, what: str) -> T:
    """Call ``call`` and await what it returns, for at most ``timeout_s`` seconds of the loop's time.

    A call that does not end when it is cancelled is left behind: it costs a task, never the run.

    Raises:
        SessionFailed: it raised, or its deadline passed.
    """
    task = asyncio.ensure_future(run_foreign(call, what))
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not task.done():
        task.cancel()
        task.add_done_callback(_forget)
        message = f"{what} did not answer within {timeout_s} s"
        raise SessionFailed(Failure(origin=origin, kind="timeout", message=message))
    if task.cancelled():
        raise SessionFailed(Failure(origin=origin, kind="cancelled", message=f"{what} cancelled itself"))
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, Exception):
        raise error  # KeyboardInterrupt is not for us to keep
    raise SessionFailed(failure_of(error, origin)) from error


async def run_foreign(call: Callable[[], Awaitable[T]], what: str) -> T:
    """Where foreign code runs: the watchdog knows it by this frame. ``what`` names it in errors."""
    try:
        return await call()
    except SystemExit as error:  # foreign code does not end the run
        raise RuntimeError(f"{what} called sys.exit({error.code!r})") from error


FOREIGN_CODE = frozenset({run_foreign.__code__})
"""Code objects below which foreign code runs."""


def _forget(task: asyncio.Future[Any]) -> None:
    """Look at a late result, so that asyncio does not complain that nobody did."""
    if not task.cancelled():
        task.exception()
