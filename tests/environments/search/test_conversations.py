"""Cutting a trace into conversations."""

from __future__ import annotations

import numpy as np

from askesis.environments.search.conversations import conversations, replies_of, segments_of
from askesis.trace import Call, Message, StopReason, TraceBuilder


def call(key: int, context: list[int], sampled: list[int], *told: str) -> Call:
    return Call(
        key=key,
        context=np.array(context),
        sampled=np.array(sampled),
        logprobs=np.zeros(len(sampled), np.float32),
        messages=tuple(Message(role="tool", content=text) for text in told),
        reply=Message(role="assistant", content=f"r{key}"),
    )


def test_a_call_that_does_not_continue_begins_another() -> None:
    calls = [
        call(0, [1, 2], [3], "Q"),
        call(1, [1, 2, 3, 4], [5], "told"),
        call(2, [1, 2, 9], [3], "Q"),
        call(3, [1, 2, 9, 3], [4]),
        call(4, [1, 2, 9, 3], [4]),
    ]
    trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
    assert [[c.key for c in talk] for talk in conversations(trace)] == [[0, 1], [2, 3], [4]]
    assert replies_of(calls[:2]) == ["r0", "r1"]
    assert [tuple(s) for s in segments_of(calls[:2])] == [("r0", True), ("told", False), ("r1", True)]
