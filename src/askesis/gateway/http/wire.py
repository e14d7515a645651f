"""What a client asks: a chat-completions request, checked field by field.

Every field is either honoured, or refused with a message that names it; none is ignored. Fields that only label a
request (``user``, ``metadata`` and the like) are accepted because they ask for nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from askesis.errors import did_you_mean
from askesis.gateway.http.refusal import Refusal

__all__ = ["MAX_CHOICES", "Asked", "Said", "ToolAsked", "parse"]

MAX_CHOICES = 128
_MAX_STOPS = 4
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAsked:
    """A tool call in a client's message: id, name, and its arguments as JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One message as the client sent it. ``developer`` has become ``system``; parts of text are joined."""

    role: str
    content: str
    tool_calls: tuple[ToolAsked, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A checked request. None means that the client left the field out."""

    model: str
    messages: tuple[Said, ...]
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    seed: int | None = None
    n: int = 1
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()
    """The functions: name, description, parameters."""


def parse(body: bytes) -> Asked:
    """Read a request body. Raises Refusal with status 400."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "malformed", f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _bad(None, "the body is not a JSON object")
    values = {key: value for key, value in document.items() if value is not None}
    for key, value in values.items():
        if key not in _FIELDS:
            near = did_you_mean(key, _FIELDS)
            raise _bad(key, f"unknown field {key!r}" + (f"; {near}" if near else ""))
        _FIELDS[key](key, value)
    for key in ("model", "messages"):
        if key not in values:
            raise _bad(key, f"the field {key!r} is missing")
    if "max_tokens" in values and "max_completion_tokens" in values:
        raise _bad("max_tokens", "give max_tokens or max_completion_tokens, not both")
    tools = () if values.get("tool_choice") == "none" else tuple(_tool(t) for t in values.get("tools", ()))
    stop = values.get("stop", ())
    stream = values.get("stream", False)
    if "stream_options" in values and not stream:
        raise _bad("stream_options", "stream_options needs stream=true")
    return Asked(
        model=values["model"],
        messages=tuple(_message(m, f"messages[{i}]") for i, m in enumerate(values["messages"])),
        temperature=values.get("temperature"),
        top_p=values.get("top_p"),
        top_k=values.get("top_k"),
        max_tokens=values.get("max_tokens", values.get("max_completion_tokens")),
        seed=values.get("seed"),
        n=values.get("n", 1),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        logprobs=values.get("logprobs", False),
        stream=stream,
        include_usage=bool(values.get("stream_options", {}).get("include_usage", False)),
        tools=tools,
    )


def _bad(param: str | None, message: str) -> Refusal:
    return Refusal(400, "invalid_value" if param else "malformed", message, param=param)


Check = Callable[[str, Any], None]


def _number(low: float, high: float) -> Check:
    def check(key: str, value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (is_number and math.isfinite(value) and low <= value <= high):
            raise _bad(key, f"{key} must be a number from {low:g} to {high:g}")

    return check


def _whole(low: int, high: int) -> Check:
    def check(key: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _bad(key, f"{key} must be a whole number from {low} to {high}")

    return check


def _flag(key: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _bad(key, f"{key} must be true or false")


def _label(key: str, value: Any) -> None:
    """Asks for nothing."""


def _only(*allowed: Any) -> Check:
    """A field of which only the values that change nothing are served."""

    def check(key: str, value: Any) -> None:
        if not any(type(value) is type(one) and value == one for one in allowed):
            shown = ", ".join(json.dumps(one) for one in allowed)
            raise _bad(key, f"{key}={json.dumps(value)[:100]} is not supported here; leave it out or send {shown}")

    return check


def _never(key: str, value: Any) -> None:
    raise _bad(key, f"{key} is not supported here; leave it out")


def _name(key: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise _bad(key, f"{key} must be a text")


def _stops(key: str, value: Any) -> None:
    texts = [value] if isinstance(value, str) else value
    good = isinstance(texts, list) and len(texts) <= _MAX_STOPS and all(isinstance(t, str) and t for t in texts)
    if not good:
        raise _bad(key, f"stop must be a text or a list of at most {_MAX_STOPS} texts, none of them empty")


def _list(key: str, value: Any) -> None:
    if not isinstance(value, list) or (key == "messages" and not value):
        raise _bad(key, f"{key} must be a list" + (" with at least one message" if key == "messages" else ""))


def _stream_options(key: str, value: Any) -> None:
    if not isinstance(value, dict) or not value.keys() <= {"include_usage", "include_obfuscation"}:
        raise _bad(key, "stream_options may hold include_usage only")
    _flag("stream_options.include_usage", value.get("include_usage", False))
    _only(False)("stream_options.include_obfuscation", value.get("include_obfuscation", False))


_FIELDS: dict[str, Check] = {
    "model": _name,
    "messages": _list,
    "temperature": _number(0.0, 2.0),
    "top_p": _number(1e-6, 1.0),
    "top_k": _whole(0, 1_000_000),
    "max_tokens": _whole(1, 10_000_000),
    "max_completion_tokens": _whole(1, 10_000_000),
    "seed": _whole(-(2**63), 2**63 - 1),
    "n": _whole(1, MAX_CHOICES),
    "stop": _stops,
    "logprobs": _flag,
    "stream": _flag,
    "stream_options": _stream_options,
    "tools": _list,
    "tool_choice": _only("auto", "none"),
    "parallel_tool_calls": _only(True),
    "top_logprobs": _only(0),
    "frequency_penalty": _only(0, 0.0),
    "presence_penalty": _only(0, 0.0),
    "logit_bias": _only({}),
    "response_format": _only({"type": "text"}),
    "modalities": _only(["text"]),
    "store": _only(False),
    "service_tier": _only("auto", "default"),
    "user": _label,
    "metadata": _label,
    "safety_identifier": _label,
    "prompt_cache_key": _label,
    "audio": _never,
    "function_call": _never,
    "functions": _never,
    "moderation": _never,
    "prediction": _never,
    "prompt_cache_retention": _never,
    "reasoning_effort": _never,
    "verbosity": _never,
    "web_search_options": _never,
}


def _tool(value: Any) -> Mapping[str, Any]:
    function = value.get("function") if isinstance(value, dict) and value.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise _bad("tools", "a tool must be {type: function, function: {name, description, parameters}}")
    if function.get("strict"):
        raise _bad("tools", f"tool {function['name']}: strict=true is not supported here; leave it out")
    parameters = function.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise _bad("tools", f"tool {function['name']}: parameters must be a JSON schema")
    return {
        "name": function["name"],
        "description": str(function.get("description") or ""),
        "parameters": parameters,
    }


def _message(value: Any, where: str) -> Said:
    role = value.get("role") if isinstance(value, dict) else None
    if role not in _ROLES:
        raise _bad(where, f"{where} needs a role: {', '.join(_ROLES)}")
    for key in ("tool_call_id", "name"):
        if value.get(key) is not None and not isinstance(value[key], str):
            raise _bad(where, f"{where}.{key} must be a text")
    for key in ("audio", "function_call", "refusal"):
        if value.get(key) is not None:
            raise _bad(where, f"{where}.{key} is not supported here")
    calls = value.get("tool_calls") or []
    if not isinstance(calls, list) or (calls and role != "assistant"):
        raise _bad(where, f"{where}.tool_calls must be a list, in a message of the assistant")
    content = value.get("content")
    if content is None and role != "assistant":
        raise _bad(where, f"{where} has no content")
    if role == "tool" and value.get("tool_call_id") is None:
        raise _bad(where, f"{where} is a tool's result and needs a tool_call_id")
    return Said(
        role=_ROLES[role],
        content=_content(content, where),
        tool_calls=tuple(_call(c, where) for c in calls),
        tool_call_id=value.get("tool_call_id"),
        name=value.get("name"),
    )


def _content(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    texts = []
    for part in value if isinstance(value, list) else [None]:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise _bad(where, f"{where}.content must be a text or a list of parts of type text")
        texts.append(part["text"])
    return "".join(texts)


def _call(value: Any, where: str) -> ToolAsked:
    function = value.get("function") if isinstance(value, dict) else None
    if isinstance(function, dict):
        call_id, name, arguments = value.get("id"), function.get("name"), function.get("arguments")
        if isinstance(call_id, str) and isinstance(name, str) and isinstance(arguments, str):
            return ToolAsked(id=call_id, name=name, arguments=arguments)
    raise _bad(where, f"{where}.tool_calls needs id and function {{name, arguments}}, all of them texts")
