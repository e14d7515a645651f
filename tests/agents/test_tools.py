"""Tools: schemas from signatures, and calls that end as results."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal

import pytest
from pydantic import Field

from agents.worlds import add, search, waits
from askesis.agents.tools import Toolbox, ToolResult, tool_spec
from askesis.errors import EnvironmentFault, RecipeError
from askesis.trace import ToolCall


def call(toolbox: Toolbox, name: str, arguments: str) -> ToolResult:
    return asyncio.run(toolbox.call(ToolCall(id="c", name=name, arguments=arguments)))


def fancy(
    kind: Literal["a", "b"], at: Annotated[float, Field(ge=0, description="seconds")], tags: list[str] | None = None
) -> dict[str, object]:
    """Do it."""
    return {"kind": kind, "at": at, "tags": tags}


def test_the_schema_says_what_the_signature_does() -> None:
    spec = tool_spec(add)
    assert (spec.name, spec.description) == ("add", "Add two numbers.")
    assert spec.parameters["properties"] == {"a": {"type": "integer"}, "b": {"type": "integer", "default": 2}}
    assert spec.parameters["required"] == ["a"] and spec.parameters["additionalProperties"] is False
    kinds = tool_spec(fancy).parameters["properties"]
    assert (
        kinds["kind"]["enum"] == ["a", "b"] and kinds["at"]["description"] == "seconds" and kinds["at"]["minimum"] == 0
    )
    json.dumps(dict(tool_spec(fancy).parameters))


def test_a_call_gives_text_and_other_values_as_json() -> None:
    toolbox = Toolbox([search, add, fancy, waits])
    assert [spec.name for spec in toolbox.specs] == ["search", "add", "fancy", "waits"]
    assert call(toolbox, "search", '{"query": "x"}') == ToolResult(content="found x")
    assert call(toolbox, "add", '{"a": 1}').content == "3"
    assert json.loads(call(toolbox, "fancy", '{"kind": "a", "at": 1}').content)["tags"] is None
    assert call(toolbox, "waits", '{"query": "x"}').is_error


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("serch", "{}", "did you mean 'search'"),
        ("zzz", "{}", "there are: search, add"),
        ("search", "", "query: Field required"),
        ("search", '{"query": 3}', "query"),
        ("search", '{"query": "x", "more": 1}', "more: Extra inputs"),
        ("search", "[1]", "wrong arguments"),
        ("search", "{", "wrong arguments"),
        ("add", '{"a": "one"}', "a: "),
    ],
)
def test_wrong_calls_are_results_that_say_why(name: str, arguments: str, said: str) -> None:
    result = call(Toolbox([search, add]), name, arguments)
    assert result.is_error and said in result.content and len(result.content) < 1000


def test_what_a_function_raises_is_shown_but_a_broken_world_is_not() -> None:
    def divides(by: int) -> float:
        return 1 / by

    def down() -> str:
        raise EnvironmentFault("the service is down")

    toolbox = Toolbox([divides, down])
    result = call(toolbox, "divides", '{"by": 0}')
    assert result.is_error and "ZeroDivisionError" in result.content
    with pytest.raises(EnvironmentFault, match="down"):
        call(toolbox, "down", "{}")


def test_functions_that_cannot_be_tools_are_refused() -> None:
    def untyped(x):  # type: ignore[no-untyped-def]
        return x

    def many(*x: int) -> int:
        return len(x)

    with pytest.raises(RecipeError, match="no type"):
        tool_spec(untyped)
    with pytest.raises(RecipeError, match="names"):
        tool_spec(many)
    with pytest.raises(RecipeError, match="same name"):
        Toolbox([add, add])
