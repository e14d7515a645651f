"""From texts to actions of a server's schema."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.adapters.game import IllegalAct
from askesis.environments.adapters.openenv.acting import action_of, describe_schema, reply_schema, takes_tools


def schema(required: list[str], **fields: str) -> dict[str, Any]:
    common = {"metadata": {"type": "object"}}
    return {"properties": common | {name: {"type": kind} for name, kind in fields.items()}, "required": required}


MOVE = schema(["number"], number="integer", why="string")
SAY = schema(["text"], text="string")
TWO = schema(["x", "y"], x="number", y="number")


@pytest.mark.parametrize(
    ("form", "text", "action"),
    [
        (MOVE, "7", {"number": 7}),
        (MOVE, '{"number": 7, "why": "so"}', {"number": 7, "why": "so"}),
        (MOVE, 'I take\n```json\n{"number": 3}\n```', {"number": 3}),
        (SAY, "hello", {"text": "hello"}),
        (SAY, '{"text": "x"}', {"text": "x"}),
        (SAY, '{"other": "x"}', {"text": '{"other": "x"}'}),
        (SAY, "\ud800", {"text": "?"}),
        (TWO, '{"x": 1, "y": 2.5}', {"x": 1, "y": 2.5}),
        (schema(["go"], go="boolean"), "true", {"go": True}),
        (schema([], path="array"), "[1, 2]", {"path": [1, 2]}),
    ],
)
def test_legal_texts(form: dict[str, Any], text: str, action: dict[str, Any]) -> None:
    assert action_of(form, text) == action


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (MOVE, "seven"),
        (MOVE, "7.5"),
        (MOVE, "true"),
        (MOVE, ""),
        (TWO, "1"),
        (TWO, '{"x": 1, "z": 2}'),
        (SAY, "x" * 200_000),
    ],
)
def test_illegal_texts_say_what_is_legal(form: dict[str, Any], text: str) -> None:
    with pytest.raises(IllegalAct, match="write "):
        action_of(form, text)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    for form in (MOVE, SAY, TWO):
        try:
            assert isinstance(action_of(form, text), dict)
        except IllegalAct as error:
            assert str(error)


def test_which_servers_have_tools() -> None:
    call = schema(["tool_name"], type="string", tool_name="string", arguments="object")
    both = schema([], type="string", tool_name="string", arguments="object", text="string")
    assert takes_tools(call) and takes_tools(both) and takes_tools(schema([])) and not takes_tools(SAY)
    assert reply_schema(call)["properties"] == {}
    assert list(reply_schema(both)["properties"]) == ["text"]
    assert action_of(reply_schema(both), "bye") == {"text": "bye"}


def test_a_schema_is_described() -> None:
    assert describe_schema(SAY) == "what belongs into the field 'text'"
    assert describe_schema(TWO) == 'a JSON object with the fields {"x": "number", "y": "number"}'
