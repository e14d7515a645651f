"""The messages of OpenEnv's web socket, version 0.10: ``{"type": ..., "data": {...}}`` in both directions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from askesis.environments.adapters.texts import shown

__all__ = ["RESERVED", "ErrorCode", "Observation", "WireError", "message", "observation_of", "observed_text"]

RESERVED = frozenset({"reset", "step", "state", "close"})
"""Names that no tool may have: an agent must not control the episode."""


class ErrorCode(StrEnum):
    """What can go wrong, in OpenEnv's words."""

    INVALID_JSON = "INVALID_JSON"
    UNKNOWN_TYPE = "UNKNOWN_TYPE"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    EXECUTION_ERROR = "EXECUTION_ERROR"
    CAPACITY_REACHED = "CAPACITY_REACHED"
    FACTORY_ERROR = "FACTORY_ERROR"
    SESSION_ERROR = "SESSION_ERROR"


class WireError(Exception):
    """The server answered with an error, or with something that is no answer."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a reset or a step gave."""

    observation: Mapping[str, Any]
    reward: float | None
    """None: the server said nothing about it."""
    done: bool
    metadata: Mapping[str, Any]


def message(kind: str, data: Mapping[str, Any] | None = None) -> str:
    """A message as it is sent."""
    return json.dumps({"type": kind} if data is None else {"type": kind, "data": data}, ensure_ascii=True)


def observation_of(raw: str | bytes) -> Observation:
    """The observation in a server's answer. Raises WireError for an error, and for anything that is no observation."""
    try:
        answer = json.loads(raw)
        kind, data = answer["type"], answer["data"]
        if kind == "error":
            raise WireError(str(data.get("code", ErrorCode.SESSION_ERROR)), shown(str(data.get("message", "")), 500))
        if kind != "observation":
            raise WireError(ErrorCode.UNKNOWN_TYPE, f"an answer of the type {str(kind)[:80]!r}")
        observation, reward, done = data["observation"], data.get("reward"), data.get("done", False)
        metadata = data.get("metadata") or {}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(ErrorCode.INVALID_JSON, f"no answer of OpenEnv ({type(error).__name__})") from error
    if not (isinstance(observation, dict) and isinstance(metadata, dict) and isinstance(done, bool)):
        raise WireError(ErrorCode.VALIDATION_ERROR, "an observation of another form")
    if reward is not None and not isinstance(reward, (bool, int, float)):
        raise WireError(ErrorCode.VALIDATION_ERROR, f"the reward {str(reward)[:80]!r}")
    return Observation(
        observation=observation, reward=None if reward is None else float(reward), done=done, metadata=metadata
    )


def observed_text(observation: Mapping[str, Any]) -> str:
    """An observation as text: its only text if it holds nothing else, JSON otherwise; metadata and what is
    empty are left out.
    """
    fields = {key: value for key, value in observation.items() if key != "metadata" and value not in (None, "", [], {})}
    if len(fields) == 1:
        (value,) = fields.values()
        if isinstance(value, str):
            return value
    return json.dumps(fields, ensure_ascii=False) if fields else ""
