"""One question, one answer."""

from __future__ import annotations

import asyncio

import pytest

from askesis.clock import VirtualClock
from askesis.environments import SEAT, Done, validate_turn
from askesis.environments.reasoning.environment import DEFAULT_INSTRUCTION, QuestionEnvironment
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace import Budgets, Message, Task, ToolCall

ACTS = {SEAT: Message(role="assistant", content="<answer>2</answer>")}


def session(number: int = 0) -> Session:
    return Session(
        id=f"s{number}",
        task=Task(key="k", environment="reasoning", payload={"question": f"{number} + 1?"}),
        group_id="g",
        member_index=number,
        seed=0,
        policy_version=0,
        budgets=Budgets(),
        clock=VirtualClock(),
    )


@pytest.mark.parametrize(
    ("instruction", "roles"),
    [(DEFAULT_INSTRUCTION, ["system", "user"]), ("Be brief.", ["system", "user"]), ("", ["user"])],
)
def test_the_question_comes_below_the_instruction(instruction: str, roles: list[str]) -> None:
    turn = asyncio.run(QuestionEnvironment(instruction).reset(session()))
    assert validate_turn(turn, where="reset") is turn
    messages = turn.seats[SEAT]
    assert [m.role for m in messages] == roles and messages[-1].content == "0 + 1?"
    assert messages[0].content in (instruction, "0 + 1?")


def test_the_default_instruction_names_the_tags() -> None:
    for tag in ("<think>", "</think>", "<answer>", "</answer>"):
        assert tag in DEFAULT_INSTRUCTION


def test_the_first_reply_ends_the_session_and_a_second_is_an_error() -> None:
    environment = QuestionEnvironment("")

    async def main() -> None:
        one, two = session(1), session(2)
        await environment.reset(one)
        await environment.reset(two)
        assert await environment.step(one, ACTS) == Done.terminated()
        with pytest.raises(EnvironmentFault, match="not open"):
            await environment.step(one, ACTS)
        assert await environment.step(two, ACTS) == Done.terminated()
        with pytest.raises(EnvironmentFault, match="not open"):
            await environment.step(session(3), ACTS)

    asyncio.run(main())


def test_close_forgets_the_session() -> None:
    environment = QuestionEnvironment("")

    async def main() -> None:
        await environment.reset(session())
        await environment.close(session())
        with pytest.raises(EnvironmentFault, match="not open"):
            await environment.step(session(), ACTS)

    asyncio.run(main())


def test_there_are_no_tools() -> None:
    environment = QuestionEnvironment("")
    assert environment.tools() == ()
    result = asyncio.run(environment.call_tool(session(), SEAT, ToolCall(id="1", name="x", arguments="{}")))
    assert result.is_error and "'x'" in result.content
