"""The conversations of a trace: calls that continue each other, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from askesis.environments.search.rewards import Segment
from askesis.trace.tree import Call, Trace

__all__ = ["conversations", "replies_of", "segments_of"]


def conversations(trace: Trace) -> list[list[Call]]:
    """The acts in their order, cut where a call does not continue the one before it.

    With all of the history in the context there is one conversation; with a compact memory, one for each turn.
    """
    found: list[list[Call]] = []
    for call in trace.acts:
        if found and _continues(call, found[-1][-1]):
            found[-1].append(call)
        else:
            found.append([call])
    return found


def _continues(call: Call, before: Call) -> bool:
    size = len(before.context) + len(before.sampled)
    head = np.concatenate([before.context, before.sampled])
    return len(call.context) >= size and bool(np.array_equal(call.context[:size], head))


def replies_of(calls: Sequence[Call]) -> list[str]:
    """What the policy wrote."""
    return [call.reply.content for call in calls if call.reply is not None]


def segments_of(calls: Sequence[Call]) -> list[Segment]:
    """What the policy wrote and what it was told in return; the opening messages are left out."""
    segments = []
    for number, call in enumerate(calls):
        if number:
            segments += [Segment(m.content, by_policy=False) for m in call.messages if m.role != "assistant"]
        if call.reply is not None:
            segments.append(Segment(call.reply.content, by_policy=True))
    return segments
