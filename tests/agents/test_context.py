"""What each strategy shows."""

from __future__ import annotations

import pytest

from askesis.agents.context import CompactMemory, FullContext, WindowContext
from askesis.agents.formats import Observation
from askesis.trace import Message

OPENING = [Message(role="system", content="S"), Message(role="user", content="Q")]


def reply(text: str) -> Message:
    return Message(role="assistant", content=text)


def result(text: str) -> Observation:
    return Observation(message=Message(role="tool", content=text), text=f"[{text}]")


def contents(context: FullContext | CompactMemory) -> list[str]:
    return [message.content for message in context.render()]


def played(context: FullContext, exchanges: int) -> FullContext:
    context.begin(OPENING)
    for number in range(exchanges):
        context.replied(reply(f"a{number}"))
        context.observe([result(f"r{number}"), result(f"s{number}")])
    return context


def test_full_keeps_everything() -> None:
    context = played(FullContext(), 3)
    assert contents(context) == ["S", "Q", *(f"{k}{n}" for n in range(3) for k in "ars")]
    assert context.takes_hints and not context.wants_memory and context.remember("<memory>x</memory>") is None


@pytest.mark.parametrize(("exchanges", "first"), [(0, 0), (1, 0), (2, 0), (3, 1), (9, 7)])
def test_the_window_keeps_the_task_and_whole_exchanges(exchanges: int, first: int) -> None:
    context = played(WindowContext(2), exchanges)
    assert contents(context) == ["S", "Q", *(f"{k}{n}" for n in range(first, exchanges) for k in "ars")]


def test_a_memory_replaces_everything_but_the_task() -> None:
    context = CompactMemory("update")
    context.begin(OPENING)
    task = "<question> Q </question>\n\n<memory> {} </memory>"
    assert contents(context) == ["S", task.format("")] and not context.wants_memory
    context.replied(reply("call"))
    context.observe([result("r"), result("s")])
    assert context.wants_memory
    assert contents(context) == ["S", task.format(""), "call", "[r]\n\n[s]\n\nupdate"]
    context.replied(reply("<memory>m</memory>"))
    assert context.remember("<memory> m </memory>") == "m"
    assert contents(context) == ["S", task.format("m")] and not context.wants_memory


@pytest.mark.parametrize(
    "text", ["no memory", "<memory></memory>", "<memory> </memory>", "<memory>x", "</memory><memory>"]
)
def test_what_is_no_memory_changes_nothing(text: str) -> None:
    context = CompactMemory("")
    context.begin(OPENING)
    context.observe([result("r")])
    before = context.render()
    assert context.remember(text) is None and context.render() == before and context.wants_memory
    assert before[-1].content == "[r]"
