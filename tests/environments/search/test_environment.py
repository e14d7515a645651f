"""The search environment: one question, one tool."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest

from askesis.clock import SystemClock
from askesis.environments import Done, ToolResult, Turn
from askesis.environments.search.corpus import Hit
from askesis.environments.search.environment import MAX_QUERY, SearchEnvironment
from askesis.environments.search.retrievers import make_retriever
from askesis.errors import EnvironmentFault
from askesis.gateway import Session
from askesis.trace import Budgets, Message, Task, ToolCall
from environments.search.retrievers.cases import CORPUS

SESSION = Session(
    id="s",
    task=Task(key="k", environment="search", payload={"question": "Who?", "answers": ["x"]}),
    group_id="g",
    member_index=0,
    seed=0,
    policy_version=0,
    budgets=Budgets(),
    clock=SystemClock(),
)
WORLD = SearchEnvironment(make_retriever("fts5", CORPUS), top_k=1, instruction="Search.")


def call(arguments: object, name: str = "search", world: SearchEnvironment = WORLD) -> ToolResult:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return asyncio.run(world.call_tool(SESSION, "agent", ToolCall(id="c", name=name, arguments=text)))


def test_the_first_reply_ends_it() -> None:
    async def play() -> tuple[Turn, Turn | Done]:
        turn = await WORLD.reset(SESSION)
        return turn, await WORLD.step(SESSION, {"agent": Message(role="assistant", content="x")})

    turn, end = asyncio.run(play())
    assert [(m.role, m.content) for m in turn.seats["agent"]] == [("system", "Search."), ("user", "Who?")]
    assert isinstance(end, Done) and end.stop.is_terminated
    with pytest.raises(EnvironmentFault, match="not open"):
        asyncio.run(WORLD.step(SESSION, {}))
    asyncio.run(WORLD.close(SESSION))


def test_the_tool_says_what_it_takes_and_finds_passages() -> None:
    (spec,) = WORLD.tools()
    assert spec.name == "search" and spec.parameters["required"] == ["query"] and "passages" in spec.description
    assert call({"query": "cats"}).content == "Doc 1(Title: Cats) Cats sleep all day."
    assert call({"query": "cats", "top_n": 2}).content.count("Doc ") == 2
    assert call({"query": "zebra"}) == ToolResult(content="Nothing was found.")


@pytest.mark.parametrize("arguments", [{}, {"query": ""}, {"query": 3}, {"query": "x", "top_n": 11}, "{", {"q": "x"}])
def test_wrong_arguments_are_results(arguments: object) -> None:
    assert call(arguments).is_error
    assert call({"query": "x"}, name="answer").is_error


def test_a_query_has_a_length_and_a_broken_retriever_is_no_result() -> None:
    asked: list[str] = []

    class Down:
        is_deterministic = False

        async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
            asked.extend(queries)
            raise EnvironmentFault("down")

    world = SearchEnvironment(Down(), top_k=3)
    with pytest.raises(EnvironmentFault, match="down"):
        call({"query": "x" * 10**6}, world=world)
    assert len(asked[0]) == MAX_QUERY and not world.capabilities.deterministic
