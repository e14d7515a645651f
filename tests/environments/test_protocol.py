"""Turns, ends, and the one function that tells well-formed ones from garbage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from askesis.environments import SEAT, Done, Turn, validate_turn
from askesis.errors import EnvironmentFault
from askesis.trace import Message, StopReason

HELLO = Message(role="user", content="hello")


@pytest.mark.parametrize(
    "turn",
    [
        Turn(seats={SEAT: (HELLO,)}),
        Turn(seats={"a": (HELLO, HELLO), "b": ()}),
        Turn(seats={SEAT: (Message(role="tool", content="x", tool_call_id="1"),)}),
        Turn(seats={SEAT: (Message(role="user", content="\x00"),)}),
    ],
)
def test_a_well_formed_turn_is_returned_as_it_is(turn: Turn) -> None:
    assert validate_turn(turn) is turn
    assert validate_turn(turn, where="reset") is turn


def message(role: Any = "user", content: Any = "x") -> Message:
    return Message(role=role, content=content)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "neither a turn nor an end"),
        ("hello", "neither a turn nor an end"),
        ({"agent": (HELLO,)}, "neither a turn nor an end"),
        (SimpleNamespace(seats={SEAT: (HELLO,)}), "neither a turn nor an end"),
        (Turn(seats={}), "at least one seat"),
        (Turn(seats=[HELLO]), "at least one seat"),  # type: ignore[arg-type]
        (Turn(seats={"": (HELLO,)}), "name is not a text"),
        (Turn(seats={1: (HELLO,)}), "name is not a text"),  # type: ignore[dict-item]
        (Turn(seats={SEAT: [HELLO]}), "not a tuple"),  # type: ignore[dict-item]
        (Turn(seats={SEAT: HELLO}), "not a tuple"),  # type: ignore[dict-item]
        (Turn(seats={SEAT: (b"x",)}), "wrong type"),  # type: ignore[dict-item]
        (Turn(seats={SEAT: (message(role="robot"),)}), "unknown role"),
        (Turn(seats={SEAT: (message(content=None),)}), "not a text"),
        (Turn(seats={SEAT: (message(content=b"x"),)}), "not a text"),
        (Turn(seats={SEAT: (HELLO, message(content="\ud800"))}), "UTF-8"),
        (Done(stop=StopReason.MAX_TOKENS), "not the environment's"),
        (Done.terminated({"x": float("nan")}), "cannot be written as JSON"),
        (Done.terminated({"x": {1, 2}}), "cannot be written as JSON"),
    ],
)
def test_garbage_is_named(value: object, what: str) -> None:
    with pytest.raises(EnvironmentFault, match=what) as caught:
        validate_turn(value)
    assert caught.value.next_step is not None
    assert caught.value.where is not None and caught.value.where.startswith("step")


def test_the_fault_says_where() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        validate_turn(Turn(seats={"red": (HELLO, message(content=3))}), where="reset")
    assert (caught.value.where, caught.value.got, caught.value.expected) == ("reset, seat red, message 1", "3", "str")


def test_an_end_says_how() -> None:
    end = Done.terminated({"won": True})
    assert (end.stop, end.reason, end.info) == (StopReason.TERMINATED, "", {"won": True})
    cut = Done.truncated("100 moves", {"moves": 100})
    assert (cut.stop, cut.reason, cut.info) == (StopReason.ENVIRONMENT_LIMIT, "100 moves", {"moves": 100})
    assert cut.stop.is_truncated and end.stop.is_terminated
    assert validate_turn(end) is end and validate_turn(cut) is cut


def test_a_session_cannot_end_before_it_began() -> None:
    with pytest.raises(EnvironmentFault, match="neither"):
        validate_turn(Done.terminated(), where="reset")
