"""Messages of OpenEnv's web socket."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.adapters.openenv.wire import ErrorCode, WireError, message, observation_of, observed_text


def test_messages() -> None:
    assert json.loads(message("reset", {"seed": 3})) == {"type": "reset", "data": {"seed": 3}}
    assert json.loads(message("close")) == {"type": "close"}


def test_an_observation() -> None:
    raw = '{"type": "observation", "data": {"observation": {"hint": "x"}, "reward": 1, "done": true}}'
    seen = observation_of(raw)
    assert (seen.observation, seen.reward, seen.done, seen.metadata) == ({"hint": "x"}, 1.0, True, {})
    assert observation_of('{"type": "observation", "data": {"observation": {}}}').reward is None


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("no json", ErrorCode.INVALID_JSON),
        ("[" * 100_000, ErrorCode.INVALID_JSON),
        ("[]", ErrorCode.INVALID_JSON),
        ('{"type": "observation"}', ErrorCode.INVALID_JSON),
        ('{"type": "state", "data": {}}', ErrorCode.UNKNOWN_TYPE),
        ('{"type": "observation", "data": {"observation": "x"}}', ErrorCode.VALIDATION_ERROR),
        ('{"type": "observation", "data": {"observation": {}, "done": "yes"}}', ErrorCode.VALIDATION_ERROR),
        ('{"type": "observation", "data": {"observation": {}, "reward": "1"}}', ErrorCode.VALIDATION_ERROR),
        ('{"type": "error", "data": {"code": "CAPACITY_REACHED", "message": "full"}}', ErrorCode.CAPACITY_REACHED),
    ],
)
def test_anything_else_is_an_error_with_its_code(raw: str, code: ErrorCode) -> None:
    with pytest.raises(WireError) as caught:
        observation_of(raw)
    assert caught.value.code == code


@given(st.text())
def test_no_answer_raises_anything_else(raw: str) -> None:
    with pytest.raises(WireError):
        observation_of(raw)


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ({"text": "hello", "metadata": {"x": 1}}, "hello"),
        ({"text": "hello", "empty": None, "list": []}, "hello"),
        ({"board": [1, 2]}, '{"board": [1, 2]}'),
        ({"a": "x", "b": "y"}, '{"a": "x", "b": "y"}'),
        ({"metadata": {"status": "ready"}}, ""),
    ],
)
def test_what_is_shown(observation: dict[str, object], text: str) -> None:
    assert observed_text(observation) == text
