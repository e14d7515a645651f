"""Any synchronous game as an environment; the game here counts to a number."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from typing import Any

import pytest

from askesis.environments.adapters.environment import GameEnvironment
from askesis.environments.adapters.episode import Episode
from askesis.environments.adapters.game import Beat, IllegalAct
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.seeds import SeedTasks
from askesis.environments.check import check_environment
from askesis.environments.protocol import SEAT, Done, Turn, World
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.types import StopReason, ToolCall


class Count:
    """Every seat must say one more than before; draws from the global generator, as bad libraries do."""

    def __init__(self, seats: tuple[str, ...] = (SEAT,), *, reward: Any = 1.0) -> None:
        self.seats, self.reward = seats, reward
        self.joint: list[Mapping[str, Any]] = []
        self.closed = 0

    def begin(self) -> Beat:
        self.target = random.randint(0, 9)
        return Beat(seen=dict.fromkeys(self.seats, f"say {self.target}"))

    def parse(self, seat: str, text: str) -> int:
        if text != str(self.target):
            raise IllegalAct(f"say {self.target}")
        return self.target

    def play(self, actions: Mapping[str, Any]) -> Beat:
        self.joint.append(dict(actions))
        self.target += 1
        paid = dict.fromkeys(self.seats, self.reward)
        if len(self.joint) == 3:
            return Beat(
                seen={}, paid=paid, stop=StopReason.TERMINATED, info={"deep": object(), "n": 3, "nan": math.nan}
            )
        return Beat(seen=dict.fromkeys(self.seats, f"say {self.target}"), paid=paid)

    def close(self) -> None:
        self.closed += 1


def world(
    seats: tuple[str, ...] = (SEAT,), *, games: list[Count] | None = None, reward: Any = 1.0, **options: Any
) -> World:
    def make(session: Session) -> Count:
        game = Count(seats, reward=reward)
        if games is not None:
            games.append(game)
        return game

    return World(
        name="count",
        environment=GameEnvironment(make, instruction="Count.", **options),
        evaluator=ReturnEvaluator("count"),
        tasks=SeedTasks(environment="count", family="count"),
    )


def told(turn: object, seat: str = SEAT) -> str:
    assert isinstance(turn, Turn)
    return turn.seats[seat][-1].content


def play(world: World, *acts: Mapping[str, str] | str) -> tuple[list[Turn | Done], Episode, Any]:
    async def run() -> tuple[list[Turn | Done], Episode, Any]:
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            beats: list[Turn | Done] = [await episode.begin()]
            for act in acts:
                if episode.done is None:
                    if isinstance(act, str):
                        act = {SEAT: told(beats[-1]).rpartition(" ")[2] if act == "right" else act}
                    beats.append(await episode.act(act))
            return beats, episode, await episode.judge()

    return asyncio.run(run())


def test_it_keeps_the_protocol_although_the_game_draws_globally() -> None:
    for seats in ((SEAT,), ("a", "b")):
        report = check_environment(world(seats), reward_range=(0, 3))
        assert report.ok, str(report)


def test_a_game_that_is_played_to_its_end_pays() -> None:
    games: list[Count] = []
    beats, _, verdict = play(world(games=games), "right", "right", "right")
    assert [m.role for m in beats[0].seats[SEAT]] == ["system", "user"]
    assert [m.role for m in beats[1].seats[SEAT]] == ["user"]
    assert isinstance(beats[3], Done) and beats[3].info == {"paid": {SEAT: 1.0}, "n": 3}
    assert (verdict.reward, verdict.step_rewards) == (3.0, (1.0, 1.0, 1.0))
    assert games[0].closed == 1


def test_an_illegal_act_is_asked_for_again_and_then_ends_the_game() -> None:
    beats, episode, verdict = play(world(retries=2, penalty=-0.5), "right", "x", "y", "z")
    assert told(beats[2]).startswith("This is no legal action: say ")
    assert episode.done is not None and episode.done.stop is StopReason.TERMINATED
    assert episode.done.reason == "agent wrote no legal action in 3 tries"
    assert verdict.step_rewards == (1.0, 0.0, 0.0, -0.5)


def test_a_legal_act_forgives_the_tries_before() -> None:
    beats, _, verdict = play(world(retries=1), "x", "right", "x", "right", "x", "right")
    assert isinstance(beats[-1], Done) and verdict.reward == 3.0


def test_the_joint_action_is_played_once_and_only_the_wrong_seat_is_asked_again() -> None:
    games: list[Count] = []
    counting = world(("a", "b"), games=games)

    async def run() -> None:
        async with Episode(counting, counting.tasks.task("train", 0)) as episode:
            number = told(await episode.begin(), "a").rpartition(" ")[2]
            again = await episode.act({"a": number, "b": "wrong"})
            assert isinstance(again, Turn) and list(again.seats) == ["b"]
            assert games[0].joint == []
            turn = await episode.act({"b": number})
            assert isinstance(turn, Turn) and sorted(turn.seats) == ["a", "b"]
            assert games[0].joint == [{"a": int(number), "b": int(number)}]

    asyncio.run(run())


def test_a_seat_that_does_not_act_is_a_fault() -> None:
    with pytest.raises(EnvironmentFault, match="a seat that must act did not"):
        play(world(("a", "b")), {"a": "1"})


@pytest.mark.parametrize("reward", [math.nan, "much"])
def test_a_reward_that_is_no_number_fails_the_session(reward: object) -> None:
    with pytest.raises(EnvironmentFault, match="not a finite number"):
        play(world(reward=reward), "right")


def test_there_are_no_tools() -> None:
    counting = world()

    async def run() -> bool:
        async with Episode(counting, counting.tasks.task("train", 0)) as episode:
            await episode.begin()
            call = ToolCall(id="1", name="win", arguments="{}")
            return (await counting.environment.call_tool(episode.session, SEAT, call)).is_error

    assert counting.environment.tools() == ()
    assert asyncio.run(run())
