"""Our worlds as OpenEnv servers: the scripted dialogues."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `openenv` is not installed")
pytest.importorskip("httpx", reason="Starlette's test client needs httpx")

from askesis.environments.adapters.openenv import make_app
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.fakes import Fault, FlakyEnvironment, make_echo_world
from askesis.environments.protocol import World
from askesis.errors import RecipeError
from askesis.trace.types import ToolSpec

WORLD = make_echo_world(turns=2)
WORDS = WORLD.tasks.task("train", 3).payload["words"]


def client(world: World = WORLD, **options: Any) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Starlette's on its own dependencies
        from starlette.testclient import TestClient

        return TestClient(make_app(world, **options))


def ask(socket: Any, kind: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    socket.send_text(json.dumps({"type": kind} if data is None else {"type": kind, "data": data}))
    answer: dict[str, Any] = json.loads(socket.receive_text())
    return answer


def code(answer: dict[str, Any]) -> str:
    assert answer["type"] == "error"
    return str(answer["data"]["code"])


def test_the_scripted_dialogue() -> None:
    with client().websocket_connect("/ws") as socket:
        first = ask(socket, "reset", {"seed": 3})
        assert first["type"] == "observation"
        assert first["data"] == {
            "observation": {"text": f"Repeat each word.\n\n{WORDS[0]}"},
            "reward": None,
            "done": False,
        }
        assert ask(socket, "state") == {"type": "state", "data": {"episode_id": "echo/train/3", "step_count": 0}}
        second = ask(socket, "step", {"text": WORDS[0]})
        assert second["data"]["observation"] == {"text": WORDS[1]} and second["data"]["reward"] is None
        last = ask(socket, "step", {"text": "wrong"})["data"]
        assert (last["done"], last["reward"]) == (True, 0.5)
        assert last["metadata"] == {"terminated": True, "truncated": False, "reason": ""}
        assert ask(socket, "state")["data"]["step_count"] == 2
        assert code(ask(socket, "step", {"text": "more"})) == "EXECUTION_ERROR"
        assert ask(socket, "reset", {"seed": 3}) == first
        socket.send_text('{"type": "close"}')
        assert socket.receive()["type"] == "websocket.close"


def test_bad_messages_have_their_codes_and_end_nothing() -> None:
    with client().websocket_connect("/ws") as socket:
        socket.send_text("{no json")
        assert code(json.loads(socket.receive_text())) == "INVALID_JSON"
        socket.send_text("[" * 100_000)
        assert code(json.loads(socket.receive_text())) == "INVALID_JSON"
        assert code(ask(socket, "dance")) == "UNKNOWN_TYPE"
        socket.send_text("[1]")
        assert code(json.loads(socket.receive_text())) == "VALIDATION_ERROR"
        assert code(ask(socket, "reset", {"seed": -1})) == "VALIDATION_ERROR"
        assert code(ask(socket, "step", {"text": "x"})) == "EXECUTION_ERROR"
        ask(socket, "reset", {"seed": 0})
        for action in ({}, {"text": 1}, {"type": "call_tool"}, {"type": "call_tool", "tool_name": "reset"}):
            assert code(ask(socket, "step", action)) == "VALIDATION_ERROR"
        assert ask(socket, "step", {"text": "x"})["type"] == "observation"


def test_each_connection_has_an_episode_of_its_own_up_to_the_capacity() -> None:
    test = client(max_concurrent_envs=2)
    with test.websocket_connect("/ws") as one:
        with test.websocket_connect("/ws") as two:
            ask(one, "reset", {"seed": 3})
            ask(two, "reset", {"seed": 4})
            assert ask(one, "step", {"text": "x"})["data"]["observation"]["text"] == WORDS[1]
            with test.websocket_connect("/ws") as three:
                refused = json.loads(three.receive_text())
                assert code(refused) == "CAPACITY_REACHED"
                assert (refused["data"]["active_sessions"], refused["data"]["max_sessions"]) == (2, 2)
            assert ask(two, "state")["data"]["episode_id"] == "echo/train/4"
        with test.websocket_connect("/ws") as four:
            assert ask(four, "reset")["type"] == "observation"


def test_tools_are_listed_and_called() -> None:
    with client().websocket_connect("/ws") as socket:
        listed = ask(socket, "step", {"type": "list_tools"})["data"]["observation"]["tools"]
        assert [(tool["name"], tool["input_schema"]["required"]) for tool in listed] == [("reverse", ["text"])]
        ask(socket, "reset", {"seed": 3})
        called = ask(socket, "step", {"type": "call_tool", "tool_name": "reverse", "arguments": {"text": "ab"}})
        assert called["data"]["observation"] == {"tool_name": "reverse", "result": '}"ba" :"txet"{', "error": None}
        assert called["data"]["done"] is False and called["data"]["reward"] is None
        unknown = ask(socket, "step", {"type": "call_tool", "tool_name": "win", "arguments": {}})
        assert unknown["data"]["observation"]["error"]["message"] == "there is no tool called 'win'"


def test_a_tool_may_not_control_the_episode() -> None:
    class Bad(type(WORLD.environment)):  # type: ignore[misc]
        def tools(self) -> tuple[ToolSpec, ...]:
            return (ToolSpec(name="reset", description="", parameters={}),)

    with pytest.raises(RecipeError, match="an agent must not control the episode"):
        make_app(replace(WORLD, environment=Bad()))


def test_a_world_that_fails_and_a_verdict_without_a_reward_are_errors() -> None:
    flaky = replace(WORLD, environment=FlakyEnvironment(WORLD.environment, {Fault.RAISE: 1.0}))
    with client(flaky).websocket_connect("/ws") as socket:
        ask(socket, "reset", {"seed": 3})
        assert code(ask(socket, "step", {"text": "x"})) == "EXECUTION_ERROR"
        assert ask(socket, "reset", {"seed": 3})["type"] == "observation"
    with client(replace(WORLD, evaluator=ReturnEvaluator("echo"))).websocket_connect("/ws") as socket:
        ask(socket, "reset", {"seed": 3})
        ask(socket, "step", {"text": "x"})
        answer = ask(socket, "step", {"text": "x"})
        assert code(answer) == "EXECUTION_ERROR" and "the episode has no reward" in answer["data"]["message"]


def test_over_http() -> None:
    test = client()
    assert test.get("/health").json() == {"status": "healthy"}
    assert test.get("/metadata").json()["name"] == "echo"
    forms = test.get("/schema").json()
    assert set(forms) == {"action", "observation", "state"} and "tool_name" in forms["action"]["properties"]
    assert test.post("/step", json={"action": {"text": "x"}}).status_code == 500
    assert test.post("/reset", json={"seed": 3}).json()["observation"]["text"].endswith(WORDS[0])
    assert test.post("/step", json={"action": {"text": "x"}}).json()["done"] is False
    assert test.get("/state").json() == {"episode_id": "echo/train/3", "step_count": 1}
    assert test.post("/step", json={"text": "x"}).status_code == 422
    assert test.post("/reset", content=b"{").status_code == 422
