"""Requests: every field is honoured or refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.gateway.http.refusal import Refusal
from askesis.gateway.http.wire import Said, ToolAsked, parse

USER = {"role": "user", "content": "hi"}


def ask(**fields: Any) -> Any:
    return parse(json.dumps({"model": "m", "messages": [USER], **fields}).encode())


def refused(**fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        ask(**fields)
    assert caught.value.status == 400
    return caught.value


def test_a_full_request_is_read() -> None:
    asked = ask(
        temperature=0.5, top_p=0.9, top_k=3, max_completion_tokens=7, seed=1, n=2, stop="x", logprobs=True, stream=True,
        stream_options={"include_usage": True}, user="label", metadata={"a": "b"}, top_logprobs=0, presence_penalty=0.0,
    )  # fmt: skip
    assert (asked.temperature, asked.top_p, asked.top_k, asked.max_tokens, asked.seed) == (0.5, 0.9, 3, 7, 1)
    assert (asked.n, asked.stop, asked.logprobs, asked.stream, asked.include_usage) == (2, ("x",), True, True, True)


def test_what_is_left_out_is_none_and_null_means_left_out() -> None:
    asked = ask(temperature=None, stop=None, tools=None)
    assert (asked.temperature, asked.top_p, asked.max_tokens, asked.seed) == (None, None, None, None)
    assert (asked.n, asked.stop, asked.tools, asked.stream) == (1, (), (), False)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temprature": 1}, "temprature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options"),
        ({"top_logprobs": 5}, "top_logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"functions": []}, "functions"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "custom"}]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "messages[1]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": "x", "name": 3}]}, "messages[0]"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_a_near_miss_is_suggested() -> None:
    assert "did you mean 'temperature'" in refused(temprature=1).message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000])
def test_what_is_not_an_object_is_malformed(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse(body)
    assert (caught.value.status, caught.value.code) == (400, "malformed")


def test_messages_are_normalised() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    asked = ask(
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "out"},
        ]
    )
    assert asked.messages == (
        Said(role="system", content="ab"),
        Said(role="assistant", content="", tool_calls=(ToolAsked(id="c1", name="f", arguments="{}"),)),
        Said(role="tool", content="out", tool_call_id="c1"),
    )


def test_tools_are_read_and_tool_choice_none_hides_them() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert ask(tools=[tool]).tools == ({"name": "f", "description": "", "parameters": {}},)
    assert ask(tools=[tool], tool_choice="none").tools == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["model", "messages", "tools", "stop", "n", "temperature", "stream", "stream_options", "tool_choice", "seed"]


@given(st.dictionaries(st.sampled_from(NAMES), json_values))
def test_no_body_gets_past_the_checks_or_breaks_them(fields: dict[str, Any]) -> None:
    try:
        asked = parse(json.dumps(fields).encode())
    except Refusal as refusal:
        assert refusal.status == 400 and refusal.message
    else:
        assert asked.model and asked.messages and 1 <= asked.n <= 128
