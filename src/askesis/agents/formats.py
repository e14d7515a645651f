"""How a policy writes that it calls a tool or answers, and how it is told what the tool said.

Two formats: tags (``<search>query</search>``, Search-R1, arXiv 2503.09516) and JSON in a tag
(``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, Qwen and MemSearcher, arXiv 2511.02805). Parsers never
raise; only what the policy wrote is ever parsed, so a tool's text cannot act.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from askesis.agents.parsing import blocks
from askesis.errors import RecipeError
from askesis.trace.types import Message, ToolCall, ToolSpec

__all__ = ["Act", "Format", "JsonFormat", "Observation", "ParsedCall", "TagFormat"]

_RESERVED = ("answer", "information", "memory", "question", "think")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedCall:
    """One call as the policy wrote it. ``call`` is None when it cannot be understood; ``problem`` then says why."""

    text: str
    call: ToolCall | None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What a reply does: calls tools, ends the turn, or (neither) nothing that the format knows."""

    calls: tuple[ParsedCall, ...] = ()
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the policy is told next: as a message of its own, or as a text inside one of the user's."""

    message: Message
    text: str


class Format(Protocol):
    """A way to write tool calls."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end a reply."""
        ...

    @property
    def runs_cut_replies(self) -> bool:
        """Calls count even in a reply that was cut at its longest length."""
        ...

    def instruction(self, tools: Sequence[ToolSpec]) -> str:
        """The system message that explains the format and the tools. RecipeError for tools that it cannot call."""
        ...

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> Act:
        """What a reply does; never raises."""
        ...

    def observation(self, call: ParsedCall, text: str) -> Observation:
        """How the result of a call is shown."""
        ...

    def hint(self, tools: Sequence[ToolSpec]) -> Observation:
        """What is said to a reply that does nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TagFormat:
    """``<tool>argument</tool>`` calls a tool of one text argument; ``<answer>…</answer>`` ends.

    What comes after the first closing tag is not kept. ``cut_rule``: which closing tag that is, when both kinds occur
    (``search_first`` is Search-R1's rule: a call wins even over an earlier answer).
    """

    cut_rule: Literal["earliest", "search_first"] = "earliest"
    runs_cut_replies: bool = True
    tools: tuple[str, ...] = ()
    """Names of the tools, whose closing tags end a reply."""

    @property
    def stop(self) -> tuple[str, ...]:
        """The closing tags; with ``search_first`` an answer does not end a reply that may still call."""
        return tuple(f"</{name}>" for name in (*self.tools, *(("answer",) * (self.cut_rule == "earliest"))))

    def instruction(self, tools: Sequence[ToolSpec]) -> str:
        """Thinking, the tools' tags, and the answer."""
        lines = [
            "Answer the question. Whenever you get new information, first reason inside <think> and </think>.",
            *(_tag_line(tool) for tool in tools),
            "You may call as often as you want. When you know enough, give only the final answer, without explanation, "
            "inside <answer> and </answer>, for example <answer>Beijing</answer>.",
        ]
        return "\n".join(lines)

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> Act:
        """A call of the first tool or an answer, whichever the cut rule picks."""
        names = [tool.name for tool in tools]
        ends = [(place, name) for name in (*names, "answer") if (place := text.find(f"</{name}>")) >= 0]
        if not ends:
            return Act()
        if self.cut_rule == "search_first":
            ends = [end for end in ends if end[1] != "answer"] or ends
        place, name = min(ends)
        start = text.find(f"<{name}>", 0, place)
        if start < 0:
            return Act()
        if name == "answer":
            return Act(is_final=True)
        content = text[start + len(name) + 2 : place].strip()
        tool = next(tool for tool in tools if tool.name == name)
        arguments = json.dumps({_argument(tool): content}, ensure_ascii=False)
        return Act(calls=(ParsedCall(text=content, call=ToolCall(id="call-0", name=name, arguments=arguments)),))

    def observation(self, call: ParsedCall, text: str) -> Observation:
        """Inside ``<information>``, as a tool's message."""
        wrapped = f"<information>{text}</information>"
        return Observation(message=Message(role="tool", content=wrapped), text=wrapped)

    def hint(self, tools: Sequence[ToolSpec]) -> Observation:
        """The tags once more."""
        ways = ", ".join(f"<{tool.name}>…</{tool.name}>" for tool in tools)
        text = f"That was neither a call nor an answer. Write {ways} or <answer>…</answer>, and try again."
        return Observation(message=Message(role="user", content=text), text=text)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonFormat:
    r"""``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, several in a reply; any reply without one ends.

    A call that cannot be parsed is answered with an error, not ignored. A reply cut at its longest length is final.
    """

    runs_cut_replies: bool = False
    answer: Literal["boxed", "tag"] = "boxed"
    r"""How the final answer is asked for: ``\boxed{…}`` or ``<answer>…</answer>``."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Nothing: a reply may hold several calls."""
        return ()

    def instruction(self, tools: Sequence[ToolSpec]) -> str:
        """The schemas and the two things that a reply may be."""
        schemas = "\n".join(
            json.dumps(
                {"name": t.name, "description": t.description, "parameters": dict(t.parameters)}, ensure_ascii=False
            )
            for t in tools
        )
        answer = "\\boxed{...}" if self.answer == "boxed" else "<answer>...</answer>"
        return (
            "You answer a question with the help of tools, in several rounds.\n"
            f"Tools, as JSON schemas:\n{schemas}\n"
            "First think inside <think> and </think>. Then do exactly one of these: when you know the answer, give it "
            f"inside {answer} and call nothing; otherwise call a tool by writing "
            '<tool_call>{"name": ..., "arguments": {...}}</tool_call>.'
        )

    def parse(self, text: str, tools: Sequence[ToolSpec]) -> Act:
        """All calls of balanced tags; none means that the reply is final."""
        calls = tuple(_json_call(block, number) for number, block in enumerate(blocks(text, "tool_call")))
        return Act(calls=calls, is_final=not calls)

    def observation(self, call: ParsedCall, text: str) -> Observation:
        """The bare result as a tool's message; or, inside a user's message, the call's text and the result in a tag."""
        wrapped = f"<tool_response>{call.text}\n{text}</tool_response>"
        call_id = call.call.id if call.call else None
        return Observation(message=Message(role="tool", content=text, tool_call_id=call_id), text=wrapped)

    def hint(self, tools: Sequence[ToolSpec]) -> Observation:
        """The form of a call. Not needed in play: a reply without a call is final."""
        text = 'Write <tool_call>{"name": ..., "arguments": {...}}</tool_call>, or the answer.'
        return Observation(message=Message(role="user", content=text), text=text)


def _tag_line(tool: ToolSpec) -> str:
    _argument(tool)
    return (
        f"Write <{tool.name}>{_argument(tool)}</{tool.name}> to call this tool: {tool.description} "
        "Its result comes inside <information> and </information>."
    )


def _argument(tool: ToolSpec) -> str:
    """The one text argument that must be given."""
    properties = tool.parameters.get("properties", {})
    required = list(tool.parameters.get("required", ()))
    if len(required) != 1 or properties.get(required[0], {}).get("type") != "string" or tool.name in _RESERVED:
        raise RecipeError(
            f"the tag format cannot call the tool {tool.name!r}",
            where="agent.format",
            got=f"required parameters {required}",
            expected=f"exactly one required parameter, a string, and a name other than {', '.join(_RESERVED)}",
            next_step="set agent.format=json",
        )
    return str(required[0])


def _json_call(text: str, number: int) -> ParsedCall:
    try:
        record: Any = json.loads(text)
        dumped = json.dumps(record.get("arguments", {}) if isinstance(record, dict) else None)
    except (ValueError, RecursionError):  # deep nesting overflows the parser's stack
        return ParsedCall(text=text, call=None, problem="the tool call is not JSON")
    if not isinstance(record, dict) or not isinstance(record.get("name"), str):
        return ParsedCall(text=text, call=None, problem='a tool call is an object with "name" and "arguments"')
    arguments = record.get("arguments", {})
    if not isinstance(arguments, dict):
        return ParsedCall(text=text, call=None, problem='"arguments" is not an object')
    return ParsedCall(text=text, call=ToolCall(id=f"call-{number}", name=record["name"], arguments=dumped))
