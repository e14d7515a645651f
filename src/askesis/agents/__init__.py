"""The harness around a policy: what it sees, how it calls tools, what it may spend."""

from askesis.agents.building import make_harness
from askesis.agents.context import CompactMemory, Context, FullContext, WindowContext
from askesis.agents.formats import Format, JsonFormat, TagFormat
from askesis.agents.harness import Agent, End, Harness, Limits
from askesis.agents.tools import Toolbox, ToolResult, tool_spec

__all__ = [
    "Agent",
    "CompactMemory",
    "Context",
    "End",
    "Format",
    "FullContext",
    "Harness",
    "JsonFormat",
    "Limits",
    "TagFormat",
    "ToolResult",
    "Toolbox",
    "WindowContext",
    "make_harness",
    "tool_spec",
]
