"""Answers in OpenAI's words: one JSON object, or the same as server-sent events.

The engine hands over whole answers, so a stream begins when the answer is complete: errors keep their status, and a
client that reads streams gets role, content, tool calls and finish in chunks of the usual form.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from askesis.gateway.http.door import Answer, Choice
from askesis.gateway.http.wire import Asked

__all__ = ["Envelope", "completion", "events", "fingerprint"]

Pieces = Callable[[Sequence[int]], list[str]]
"""Token ids to the text of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What identifies an answer; a repetition gets the same."""

    id: str
    created: int
    model: str
    version: int
    """Of the weights."""


def fingerprint(version: int) -> str:
    """OpenAI's field for what sampled: the version of the weights."""
    return f"v{version}"


def completion(envelope: Envelope, asked: Asked, answer: Answer, pieces: Pieces) -> dict[str, Any]:
    """A ``chat.completion`` object."""
    return {
        **_head(envelope, "chat.completion"),
        "choices": [
            {
                "index": index,
                "message": _message(choice),
                "logprobs": _logprobs(choice, pieces) if asked.logprobs else None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(answer.choices)
        ],
        "usage": _usage(answer),
    }


def events(envelope: Envelope, asked: Asked, answer: Answer, pieces: Pieces) -> Iterator[bytes]:
    """The same as ``chat.completion.chunk`` events, the usage last if it was asked for."""
    head = _head(envelope, "chat.completion.chunk")
    if asked.include_usage:
        head["usage"] = None

    def event(index: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return _event({**head, "choices": [choice]})

    for index, choice in enumerate(answer.choices):
        yield event(index, {"role": "assistant", "content": ""})
        logprobs = _logprobs(choice, pieces) if asked.logprobs else None
        yield event(index, {"content": choice.content}, logprobs=logprobs)
        for place, call in enumerate(_calls(choice)):
            yield event(index, {"tool_calls": [{"index": place, **call}]})
        yield event(index, {}, finish=choice.finish)
    if asked.include_usage:
        yield _event({**head, "choices": [], "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _head(envelope: Envelope, kind: str) -> dict[str, Any]:
    return {
        "id": envelope.id,
        "object": kind,
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": fingerprint(envelope.version),
    }


def _message(choice: Choice) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content, "refusal": None}
    if choice.tool_calls:
        message["tool_calls"] = _calls(choice)
        message["content"] = choice.content or None
    return message


def _calls(choice: Choice) -> list[dict[str, Any]]:
    return [
        {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
        for c in choice.tool_calls
    ]


def _logprobs(choice: Choice, pieces: Pieces) -> dict[str, Any]:
    """One entry per sampled token, the one that ends the answer included: natural logarithms under the distribution
    really sampled from.
    """
    texts = pieces(choice.tokens)
    return {
        "content": [
            {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": []}
            for text, logprob in zip(texts, choice.logprobs, strict=True)
        ],
        "refusal": None,
    }


def _usage(answer: Answer) -> dict[str, int]:
    return {
        "prompt_tokens": answer.num_context,
        "completion_tokens": answer.num_sampled,
        "total_tokens": answer.num_context + answer.num_sampled,
    }
