"""Answers as one object and as events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from askesis.gateway.http.door import Answer, Choice
from askesis.gateway.http.replies import Envelope, completion, events, fingerprint
from askesis.gateway.http.wire import Asked, Said, ToolAsked

SHOWN_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
ENVELOPE = Envelope(id="chatcmpl-1", created=7, model="m", version=3)
ASKED = Asked(model="m", messages=(Said(role="user", content="q"),))
PLAIN = Choice(content="é", tool_calls=(), finish="stop", tokens=(1, 2), logprobs=(-0.5, -1.0))
CALLING = Choice(
    content="",
    tool_calls=(ToolAsked(id="c", name="f", arguments="{}"),),
    finish="tool_calls",
    tokens=(3,),
    logprobs=(0.0,),
)
ANSWER = Answer(choices=(PLAIN, CALLING), num_context=10, version=3)


def pieces(ids: Sequence[int]) -> list[str]:
    return [{1: "é", 2: "<|end|>", 3: "x"}[i] for i in ids]


def read(asked: Asked) -> list[Any]:
    lines = [e.decode() for e in events(ENVELOPE, asked, ANSWER, pieces)]
    assert all(line.startswith("data: ") and line.endswith("\n\n") for line in lines)
    assert lines[-1] == "data: [DONE]\n\n"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_one_object() -> None:
    value = completion(ENVELOPE, ASKED, ANSWER, pieces)
    assert (value["id"], value["created"], value["model"], value["object"]) == ("chatcmpl-1", 7, "m", "chat.completion")
    assert value["system_fingerprint"] == fingerprint(3) == "v3"
    first, second = value["choices"]
    assert first["message"] == {"role": "assistant", "content": "é", "refusal": None} and first["logprobs"] is None
    assert second["message"]["content"] is None and second["finish_reason"] == "tool_calls"
    assert second["message"]["tool_calls"] == [SHOWN_CALL]
    assert value["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}


def test_logprobs_name_every_sampled_token() -> None:
    value = completion(ENVELOPE, replace(ASKED, logprobs=True), ANSWER, pieces)
    tokens = value["choices"][0]["logprobs"]["content"]
    assert [(t["token"], t["logprob"], t["bytes"]) for t in tokens] == [
        ("é", -0.5, [195, 169]),
        ("<|end|>", -1.0, list(b"<|end|>")),
    ]


def test_events_say_the_same() -> None:
    chunks = read(replace(ASKED, stream=True, include_usage=True))
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    deltas = [(c["choices"][0]["index"], c["choices"][0]["delta"]) for c in chunks if c["choices"]]
    assert deltas[:3] == [(0, {"role": "assistant", "content": ""}), (0, {"content": "é"}), (0, {})]
    assert (
        1,
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    ) in deltas
    finishes = [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]]
    assert [f for f in finishes if f] == ["stop", "tool_calls"]
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"] == 13
    assert all(c["usage"] is None for c in chunks[:-1])


def test_usage_comes_only_when_asked_for() -> None:
    assert all("usage" not in c for c in read(replace(ASKED, stream=True)))
