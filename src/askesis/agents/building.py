"""A harness from a recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from askesis.agents.context import MEMORY_REQUEST, CompactMemory, Context, FullContext, WindowContext
from askesis.agents.formats import Format, JsonFormat, TagFormat
from askesis.agents.harness import Harness, Limits
from askesis.recipe.schema import AgentSection
from askesis.trace.types import ToolSpec

__all__ = ["make_harness"]

_MEMORY = (
    "You are given a question inside <question> and </question>, and inside <memory> and </memory> what you have "
    "written down so far. You will see nothing else of earlier rounds: after each result you are asked to write the "
    "memory anew."
)


def make_harness(section: AgentSection, tools: Sequence[ToolSpec]) -> Harness:
    """The harness that a recipe describes, for a world with these tools.

    A world without tools has no format, whatever the recipe says. Raises RecipeError for a tool that the format cannot
    call.
    """
    form = _format(section, tools) if tools else None
    explained = form.instruction(tools) if form else ""
    if section.context == "compact_memory":
        explained = f"{explained}\n{_MEMORY}".strip()
    request = MEMORY_REQUEST if section.memory_request is None else section.memory_request
    contexts: dict[str, Callable[[], Context]] = {
        "full": FullContext,
        "window": lambda: WindowContext(section.window),
        "compact_memory": lambda: CompactMemory(request),
    }
    return Harness(
        format=form,
        context=contexts[section.context],
        limits=Limits(
            tool_calls=section.max_tool_calls,
            calls_per_reply=section.calls_per_reply,
            answers_at_cap=section.answers_at_cap,
            result_tokens=section.result_tokens,
            memory_tokens=section.memory_tokens,
        ),
        tools=tuple(tools),
        instruction=explained if section.instruction is None else section.instruction,
    )


def _format(section: AgentSection, tools: Sequence[ToolSpec]) -> Format | None:
    match section.format:
        case "none":
            return None
        case "tags":
            return TagFormat(tools=tuple(tool.name for tool in tools))
        case "json":
            return JsonFormat(answer="boxed" if section.context == "compact_memory" else "tag")
