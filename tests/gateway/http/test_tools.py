"""Tools in text: shown, and read back without ever raising."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from askesis.gateway.http.tools import Found, read_calls, show_call, show_tools


def test_calls_are_taken_out_of_the_text() -> None:
    first = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
    text = f'Let me see. {first}\n<tool_call>{{"name": "f"}}</tool_call>'
    assert read_calls(text) == Found(content="Let me see.", calls=(("add", '{"a": 1}'), ("f", "{}")))


def test_what_is_not_a_call_stays_text() -> None:
    for text in (
        "plain",
        "<tool_call>",
        "<tool_call>{}</tool_call>",
        '<tool_call>{"name": 3}</tool_call>',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        "<tool_call>not json</tool_call> after",
        "<tool_call>" + "[" * 5000 + "</tool_call>",
        "</tool_call><tool_call>",
    ):
        assert read_calls(text) == Found(content=text, calls=())


def test_a_nested_opening_tag_still_begins_a_good_call() -> None:
    found = read_calls('<tool_call><tool_call>{"name": "f"}</tool_call>')
    assert found == Found(content="<tool_call>", calls=(("f", "{}"),))


def test_tools_are_shown_one_per_line() -> None:
    shown = show_tools([{"name": "f", "description": "d", "parameters": {}}, {"name": "g"}])
    assert [json.loads(line)["name"] for line in shown.splitlines()[1:]] == ["f", "g"]
    assert "<tool_call>" in shown


def test_arguments_that_are_not_json_are_shown_as_text() -> None:
    assert show_call("f", "{oops") == '<tool_call>{"name": "f", "arguments": "{oops"}</tool_call>'


@given(st.text(), st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_shown_call_is_read_back(before: str, arguments: dict[str, object]) -> None:
    before = before.replace("<", "")
    if "</tool_call>" in json.dumps(arguments, ensure_ascii=False):
        return
    found = read_calls(before + show_call("f", json.dumps(arguments)))
    assert [(name, json.loads(text)) for name, text in found.calls] == [("f", arguments)]
    assert found.content == before.strip()


@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", '{"name": "f"}', "{", "x", " "]), max_size=12))
def test_no_mixture_of_tags_raises_or_loses_text(parts: list[str]) -> None:
    found = read_calls("".join(parts))
    assert found.content.count("x") == parts.count("x") or found.calls
    assert len(found.calls) <= parts.count("</tool_call>")
