"""A harness from a recipe."""

from __future__ import annotations

import pytest

from agents.worlds import add, search
from askesis.agents import CompactMemory, JsonFormat, Limits, TagFormat, WindowContext, make_harness
from askesis.agents.context import MEMORY_REQUEST
from askesis.agents.tools import tool_spec
from askesis.errors import RecipeError
from askesis.recipe.schema import AgentSection

TOOLS = (tool_spec(search),)


def test_a_world_without_tools_needs_no_format() -> None:
    harness = make_harness(AgentSection(), ())
    assert harness.format is None and harness.instruction == "" and harness.limits == Limits()


def test_the_defaults_explain_the_tools() -> None:
    harness = make_harness(AgentSection(), TOOLS)
    assert harness.format == TagFormat(tools=("search",)) and "<search>" in harness.instruction
    assert make_harness(AgentSection(instruction=""), TOOLS).instruction == ""
    assert make_harness(AgentSection(format="none"), TOOLS).format is None


def test_every_key_arrives() -> None:
    section = AgentSection(
        format="json",
        context="compact_memory",
        memory_tokens=5,
        max_tool_calls=6,
        calls_per_reply=7,
        answers_at_cap=False,
        result_tokens=8,
    )
    harness = make_harness(section, TOOLS)
    assert harness.limits == Limits(
        tool_calls=6, calls_per_reply=7, answers_at_cap=False, result_tokens=8, memory_tokens=5
    )
    assert harness.format == JsonFormat(answer="boxed") and "<memory>" in harness.instruction
    context = harness.context()
    assert isinstance(context, CompactMemory) and context.request == MEMORY_REQUEST
    quiet = make_harness(AgentSection(context="compact_memory", memory_request=""), TOOLS).context()
    assert isinstance(quiet, CompactMemory) and quiet.request == ""
    assert isinstance(make_harness(AgentSection(context="window", window=2), TOOLS).context(), WindowContext)


def test_a_tool_that_the_format_cannot_call_is_refused_at_once() -> None:
    with pytest.raises(RecipeError, match="cannot call the tool 'add'"):
        make_harness(AgentSection(instruction="x"), (tool_spec(add),))
