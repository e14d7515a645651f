"""TRL's ``environment_factory``: the contract as TRL 1.16 reads it, without TRL."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import pytest

from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.trl import environment_factory, environment_reward
from askesis.environments.fakes import Fault, FlakyEnvironment, make_echo_world
from askesis.environments.protocol import World
from askesis.errors import RecipeError
from askesis.trace.types import ToolSpec

WORLD = make_echo_world(turns=2)
WORDS = WORLD.tasks.task("train", 3).payload["words"]


class Silent(type(WORLD.environment)):  # type: ignore[misc]
    """The same without tools."""

    def tools(self) -> tuple[ToolSpec, ...]:
        return ()


def silent() -> World:
    return replace(WORLD, environment=Silent())


def public(instance: Any) -> list[str]:
    """The methods that TRL finds on the class."""
    return [name for name, _ in inspect.getmembers(type(instance), inspect.isfunction) if not name.startswith("_")]


def test_the_public_methods_are_the_tools_and_their_schema_comes_back() -> None:
    from transformers.utils import get_json_schema

    instance = environment_factory(WORLD)()
    assert public(instance) == ["reset", "reverse"]
    function = get_json_schema(instance.reverse)["function"]
    assert (function["name"], function["description"]) == ("reverse", "Turn a text round.")
    assert function["parameters"]["properties"] == {"text": {"type": "string", "description": "text"}}
    assert function["parameters"]["required"] == ["text"]


def test_optional_parameters_and_types_survive() -> None:
    from transformers.utils import get_json_schema

    class Tooled(type(WORLD.environment)):  # type: ignore[misc]
        def tools(self) -> tuple[ToolSpec, ...]:
            properties = {
                "limit": {"type": "integer", "description": "how\nmany", "default": 3},
                "query": {"type": "string"},
            }
            schema = {"type": "object", "properties": properties, "required": ["query"]}
            return (ToolSpec(name="search", description="Find.", parameters=schema),)

    instance = environment_factory(replace(WORLD, environment=Tooled()))()
    parameters = get_json_schema(instance.search)["function"]["parameters"]
    assert parameters["required"] == ["query"]
    assert parameters["properties"]["limit"] == {"type": "integer", "description": "how many"}
    assert inspect.signature(instance.search).parameters["limit"].default == 3


def test_the_last_text_is_said_to_the_world_and_judged() -> None:
    one_turn = make_echo_world(turns=1)
    word = one_turn.tasks.task("train", 3).payload["words"][0]
    right, wrong = environment_factory(one_turn)(), environment_factory(one_turn)()
    first = [instance.reset(task=3, prompt="ignored") for instance in (right, wrong)]
    assert first == [f"Repeat each word.\n\n{word}"] * 2
    assert right.reverse(text="ab") == '}"ba" :"txet"{'
    completions = [[{"role": "tool", "content": "x"}, {"role": "assistant", "content": word}], "no"]
    assert environment_reward(completions=completions, environments=[right, wrong], prompts=[]) == [1.0, 0.0]


def test_a_world_without_tools_is_played_by_reply() -> None:
    instance = environment_factory(silent())()
    assert public(instance) == ["reply", "reset"]
    instance.reset(task=3)
    assert instance.reply(text=WORDS[0]) == WORDS[1]
    assert instance.reply(text=WORDS[1]) == instance.reply(text="more") == "The episode is over."
    assert environment_reward([[{"role": "assistant", "content": "bye"}]], [instance]) == [1.0]


def test_instances_are_reused_and_tasks_come_in_turn() -> None:
    factory = environment_factory(silent())
    one, two = factory(), factory()
    seen = [one.reset(), two.reset(), one.reset()]
    assert len(set(seen)) == 3 and one.reset(task=0) == seen[0]


def test_a_world_that_failed_has_no_reward() -> None:
    broken = environment_factory(replace(silent(), evaluator=ReturnEvaluator("echo")))()
    broken.reset(task=0)
    never_reset = environment_factory(silent())()
    assert environment_reward(["x", "x"], [broken, never_reset]) == [None, None]
    flaky = environment_factory(replace(WORLD, environment=FlakyEnvironment(Silent(), {Fault.GARBAGE: 1.0})))()
    flaky.reset(task=0)
    assert environment_reward(["x"], [flaky]) == [None]


@pytest.mark.parametrize("name", ["reset", "get_reward", "_hidden", "no-name"])
def test_names_that_trl_has_taken_are_refused(name: str) -> None:
    class Tooled(type(WORLD.environment)):  # type: ignore[misc]
        def tools(self) -> tuple[ToolSpec, ...]:
            return (ToolSpec(name=name, description="", parameters={}),)

    with pytest.raises(RecipeError, match="TRL cannot have a tool of this name"):
        environment_factory(replace(WORLD, environment=Tooled()))
