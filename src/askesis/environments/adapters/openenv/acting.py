"""From what a policy writes to an action that a server's schema takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from askesis.environments.adapters.game import IllegalAct

__all__ = ["action_of", "describe_schema", "reply_schema", "takes_tools"]

_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)\n?```", re.DOTALL)
_MAX = 100_000
_CALL = ("type", "tool_name", "arguments")
_COMMON = ("metadata",)  # every action may have it, none needs it


def fields_of(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an action, without those that all have."""
    properties = schema.get("properties", {})
    return {name: field for name, field in properties.items() if name not in _COMMON}


def takes_tools(schema: Mapping[str, Any]) -> bool:
    """Are the actions calls of tools?"""
    fields = fields_of(schema)
    return not fields or {"tool_name", "arguments"} <= fields.keys()


def reply_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The part of an action that is no call of a tool; without properties when there is none."""
    own = {name: field for name, field in fields_of(schema).items() if name not in _CALL}
    return {"properties": own, "required": [name for name in schema.get("required", []) if name in own]}


def describe_schema(schema: Mapping[str, Any]) -> str:
    """One sentence on what may be written."""
    only = _only_field(schema)
    if only is not None:
        return f"what belongs into the field {only!r}"
    fields = {name: field.get("type", "any") for name, field in fields_of(schema).items()}
    return f"a JSON object with the fields {json.dumps(fields)}"


def action_of(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The action that ``text`` means: a JSON object, also in a code fence; or the value of the only required field.

    Raises IllegalAct, and nothing else whatever the text. The server checks the rest.
    """
    legal = f"write {describe_schema(schema)}"
    if len(text) > _MAX:
        raise IllegalAct(f"{len(text)} characters; {legal}")
    fenced = _FENCE.search(text)
    fields = fields_of(schema)
    value = _json(fenced.group(1) if fenced else text)
    if isinstance(value, dict) and value and value.keys() <= fields.keys():
        return value
    only = _only_field(schema)
    if only is None:
        raise IllegalAct(legal)
    kind = fields[only].get("type")
    if kind == "string":
        return {only: text.encode("utf-8", "replace").decode()}
    wanted: Any = {"integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict}.get(kind)
    if wanted is None or not isinstance(value, wanted) or (isinstance(value, bool) and kind != "boolean"):
        raise IllegalAct(f"{legal}, of the type {kind}")
    return {only: value}


def _only_field(schema: Mapping[str, Any]) -> str | None:
    """The field that alone must be given."""
    fields = fields_of(schema)
    required = [name for name in schema.get("required", []) if name in fields]
    if len(required) == 1:
        return str(required[0])
    return next(iter(fields)) if len(fields) == 1 else None


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda word: None)
    except (ValueError, RecursionError):
        return None
