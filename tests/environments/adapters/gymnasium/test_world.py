"""The world ``gymnasium``, against the real package."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `gymnasium` is not installed")

from askesis.environments import check_environment, make_world  # noqa: E402
from askesis.environments.adapters.episode import Episode  # noqa: E402
from askesis.environments.adapters.gymnasium import gymnasium_world  # noqa: E402
from askesis.environments.protocol import Done, World  # noqa: E402
from askesis.errors import RecipeError  # noqa: E402
from askesis.trace.types import Verdict  # noqa: E402

NAMES = ["left", "down", "right", "up"]


def lake(**options: Any) -> World:
    return make_world("gymnasium", family="FrozenLake-v1", options={"is_slippery": False, **options})


def play(world: World, acts: list[str]) -> tuple[Done | None, Verdict]:
    async def run() -> tuple[Done | None, Verdict]:
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            await episode.begin()
            for act in acts:
                if episode.done is None:
                    await episode.act({"agent": f"<answer>{act}</answer>"})
            return episode.done, await episode.judge()

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("FrozenLake-v1", {"max_episode_steps": 3, "show": "ansi", "actions": NAMES}),
        ("CartPole-v1", {}),
        ("Pendulum-v1", {"max_episode_steps": 2}),
        ("Blackjack-v1", {}),
    ],
)
def test_real_environments_keep_the_protocol(family: str, options: dict[str, Any]) -> None:
    world = make_world("gymnasium", family=family, options=options)
    report = check_environment(world, num_tasks=2, reward_range=(-1e3, 1e3))
    assert report.ok, str(report)


def test_the_way_to_the_goal_pays_one() -> None:
    done, verdict = play(lake(actions=NAMES), ["down", "down", "right", "right", "down", "right"])
    assert done is not None and done.stop.is_terminated
    assert (verdict.reward, verdict.completed) == (1.0, True)
    assert verdict.step_rewards == (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def test_a_hole_terminates_and_a_step_limit_truncates() -> None:
    done, verdict = play(lake(), ["1", "2"])
    assert done is not None and done.stop.is_terminated and verdict.reward == 0.0
    done, verdict = play(lake(max_episode_steps=2), ["0", "0"])
    assert done is not None and done.stop.is_truncated and done.reason == "truncated"
    assert (verdict.reward, verdict.completed) == (0.0, False)


def test_every_step_of_the_pole_pays() -> None:
    world = make_world("gymnasium", family="CartPole-v1", options={"max_episode_steps": 3, "solved_at": 3})
    _, verdict = play(world, ["0", "1", "0"])
    assert (verdict.step_rewards, verdict.completed) == ((1.0, 1.0, 1.0), True)


def test_the_policy_is_told_what_it_may_write_unless_told_otherwise() -> None:
    async def first(world: World) -> list[str]:
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            return [m.content for m in (await episode.begin()).seats["agent"]]

    assert asyncio.run(first(lake(actions=NAMES))) == [
        "Act by writing inside <answer> and </answer> one of: left, down, right, up.",
        "0",
    ]
    silent = make_world("gymnasium", family="FrozenLake-v1", instruction="")
    assert asyncio.run(first(silent)) == ["0"]


@pytest.mark.parametrize(
    ("family", "options", "complaint"),
    [
        ("FrozenLake-v9", {}, "no environment called 'FrozenLake-v9'"),
        ("FrozenLek-v1", {}, "did you mean 'FrozenLake-v1'"),
        ("FrozenLake-v1", {"is_sliperry": True}, "cannot make 'FrozenLake-v1'"),
        ("FrozenLake-v1", {"actions": ["left"]}, "another number of names"),
        ("FrozenLake-v1", {"show": "pixels"}, "observation or ansi"),
        ("FrozenLake-v1", {"retries": "two"}, "environment.options.retries"),
        ("CartPole-v1", {"show": "ansi"}, "does not draw itself as text"),
    ],
)
def test_usual_mistakes_are_named(family: str, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        make_world("gymnasium", family=family, options=options)


def test_an_environment_of_ones_own_needs_no_registration() -> None:
    world = gymnasium_world(lambda: gymnasium.make("Blackjack-v1"), family="cards")
    assert world.tasks.task("train", 0).key == "cards/train/0"
    assert play(world, ["0"])[0] is not None
