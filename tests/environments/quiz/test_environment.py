"""Turn by turn."""

from __future__ import annotations

import asyncio

import pytest

from askesis.clock import VirtualClock
from askesis.environments.protocol import Done, Turn
from askesis.environments.quiz.environment import QuizEnvironment, seat_of
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace import Budgets, Message, Task

QUESTIONS = [{"question": "1 + 1?"}, {"question": "2 + 2?"}]


def session(name: str = "s") -> Session:
    return Session(
        id=name,
        task=Task(key="quiz/train/0", environment="quiz", payload={"questions": QUESTIONS}),
        group_id="g",
        member_index=0,
        seed=0,
        policy_version=0,
        budgets=Budgets(),
        clock=VirtualClock(),
    )


def act(seat: str) -> dict[str, Message]:
    return {seat: Message(role="assistant", content="x")}


def test_each_question_goes_to_a_seat_of_its_own_below_the_instruction() -> None:
    async def main() -> tuple[Turn, Turn | Done, Turn | Done]:
        environment, open_session = QuizEnvironment("Be brief."), session()
        first = await environment.reset(open_session)
        second = await environment.step(open_session, act(seat_of(0)))
        return first, second, await environment.step(open_session, act(seat_of(1)))

    first, second, end = asyncio.run(main())
    assert isinstance(second, Turn) and isinstance(end, Done) and end.stop.is_terminated
    assert list(first.seats) == ["question 1"] and list(second.seats) == ["question 2"]
    said = [[m.content for m in messages] for turn in (first, second) for messages in turn.seats.values()]
    assert said == [["Be brief.", "1 + 1?"], ["Be brief.", "2 + 2?"]]


def test_a_session_that_is_not_open_takes_no_step() -> None:
    environment = QuizEnvironment()

    async def main() -> None:
        with pytest.raises(EnvironmentFault, match="not open"):
            await environment.step(session(), act(seat_of(0)))
        await environment.reset(session())
        await environment.close(session())
        with pytest.raises(EnvironmentFault, match="not open"):
            await environment.step(session(), act(seat_of(0)))

    asyncio.run(main())


def test_without_an_instruction_only_the_question_is_said() -> None:
    turn = asyncio.run(QuizEnvironment().reset(session()))
    assert [m.role for m in turn.seats[seat_of(0)]] == ["user"]
