"""Tools in text: how they are shown to a policy, and how its calls are read.

The format is the common one of tags around JSON: ``<tool_call>{"name": ..., "arguments": {...}}</tool_call>``. It is
shown in the system message, so it needs nothing of the chat template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Found", "read_calls", "show_call", "show_tools"]

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A policy's text without its calls, and the calls: name and arguments (JSON text)."""

    content: str
    calls: tuple[tuple[str, str], ...]


def show_tools(tools: Sequence[Mapping[str, Any]]) -> str:
    """What the system message says about the tools."""
    lines = [json.dumps(dict(tool), ensure_ascii=False) for tool in tools]
    return (
        'You can call a tool by writing <tool_call>{"name": ..., "arguments": {...}}</tool_call>. Tools:\n'
        + "\n".join(lines)
    )


def show_call(name: str, arguments: str) -> str:
    """A call as a policy would have written it; arguments that are not JSON are shown as a text."""
    try:
        value = json.loads(arguments)
    except ValueError:
        value = arguments
    return f"{_OPEN}{json.dumps({'name': name, 'arguments': value}, ensure_ascii=False)}{_CLOSE}"


def read_calls(text: str) -> Found:
    """The calls in ``text``. Never raises: what is not a well-formed call stays part of the content."""
    content: list[str] = []
    calls: list[tuple[str, str]] = []
    rest = text
    while True:
        before, opened, after = rest.partition(_OPEN)
        inside, closed, behind = after.partition(_CLOSE)
        if not (opened and closed):
            content.append(rest)
            break
        call = _call(inside)
        if call is None:
            # A second opening tag may still begin a good call.
            content.append(before + opened)
            rest = after
            continue
        content.append(before)
        calls.append(call)
        rest = behind
    kept = "".join(content)
    return Found(content=kept.strip() if calls else kept, calls=tuple(calls))


def _call(text: str) -> tuple[str, str] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        return None
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict):
        return None
    return value["name"], json.dumps(arguments, ensure_ascii=False)
