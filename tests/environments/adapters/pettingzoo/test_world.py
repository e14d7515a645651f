"""The world ``pettingzoo``, against the real package."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `pettingzoo` is not installed")
pettingzoo = pytest.importorskip("pettingzoo", reason="the extra `pettingzoo` is not installed")

from pettingzoo.utils import parallel_to_aec  # noqa: E402

from askesis.environments import check_environment, make_world  # noqa: E402
from askesis.environments.adapters.episode import Episode  # noqa: E402
from askesis.environments.adapters.pettingzoo import pettingzoo_world  # noqa: E402
from askesis.environments.protocol import Done, Turn, World  # noqa: E402
from askesis.errors import RecipeError  # noqa: E402
from askesis.trace.types import Verdict  # noqa: E402

ROUNDS = 3


class Pennies(pettingzoo.ParallelEnv):
    """Matching pennies: ``even`` wins a point from ``odd`` when both show the same. The last round truncates."""

    metadata = {"name": "pennies", "render_modes": []}  # noqa: RUF012

    def __init__(self) -> None:
        self.possible_agents = ["even", "odd"]
        self.render_mode = None
        self.joint: list[dict[str, int]] = []

    def observation_space(self, agent: str) -> Any:
        return gymnasium.spaces.Discrete(3)

    def action_space(self, agent: str) -> Any:
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.agents = list(self.possible_agents)
        return dict.fromkeys(self.agents, np.int64(2)), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, int]) -> tuple[Any, Any, Any, Any, Any]:
        self.joint.append({agent: int(action) for agent, action in actions.items()})
        same, agents = actions["even"] == actions["odd"], list(self.agents)
        is_cut = len(self.joint) == ROUNDS
        self.agents = [] if is_cut else agents
        return (
            {"even": np.int64(actions["odd"]), "odd": np.int64(actions["even"])},
            {"even": 1.0 if same else -1.0, "odd": -1.0 if same else 1.0},
            dict.fromkeys(agents, False),
            dict.fromkeys(agents, is_cut),
            {agent: {} for agent in agents},
        )


def together(made: list[Pennies] | None = None, **options: Any) -> World:
    def make() -> Pennies:
        env = Pennies()
        if made is not None:
            made.append(env)
        return env

    return pettingzoo_world(make, family="pennies", together=True, **options)


def in_turns(**options: Any) -> World:
    return pettingzoo_world(lambda: parallel_to_aec(Pennies()), family="pennies", **options)


def play(world: World, shows: dict[str, list[int]]) -> tuple[Done | None, Verdict]:
    """Each seat shows its pennies in order."""

    async def run() -> tuple[Done | None, Verdict]:
        left = {seat: iter(pennies) for seat, pennies in shows.items()}
        async with Episode(world, world.tasks.task("train", 0)) as episode:
            turn: Turn | Done = await episode.begin()
            while isinstance(turn, Turn):
                turn = await episode.act({seat: str(next(left[seat])) for seat in turn.seats})
            return episode.done, await episode.judge()

    return asyncio.run(run())


def test_the_joint_action_is_applied_once_and_the_rewards_sum_to_zero() -> None:
    made: list[Pennies] = []
    done, verdict = play(together(made, seats=["*"]), {"even": [0, 1, 1], "odd": [0, 1, 0]})
    assert made[-1].joint == [{"even": 0, "odd": 0}, {"even": 1, "odd": 1}, {"even": 1, "odd": 0}]
    assert verdict.rewards == {"even": (1.0, 0.5), "odd": (-1.0, 0.5)} and verdict.reward == 0.0
    assert done is not None and done.stop.is_truncated


def test_one_after_the_other_agrees_with_all_at_once() -> None:
    shows = {"even": [0, 1, 0], "odd": [0, 0, 0]}
    at_once, one_by_one = play(together(seats=["*"]), shows), play(in_turns(seats=["*"]), shows)
    assert at_once[1].rewards == one_by_one[1].rewards == {"even": (1.0, 0.5), "odd": (-1.0, 0.5)}
    assert at_once[0] is not None and one_by_one[0] is not None
    assert at_once[0].stop is one_by_one[0].stop and at_once[0].stop.is_truncated


@pytest.mark.parametrize("make", [together, in_turns])
def test_against_a_random_opponent_each_reply_has_its_reward(make: Any) -> None:
    done, verdict = play(make(solved_at=-3.0), {"agent": [0, 0, 0]})
    assert done is not None and verdict.step_rewards is not None and len(verdict.step_rewards) == ROUNDS
    assert all(abs(reward) == 1.0 for reward in verdict.step_rewards)
    assert verdict.reward == sum(verdict.step_rewards) and verdict.completed is True
    assert play(make(solved_at=-3.0), {"agent": [0, 0, 0]})[1] == verdict


@pytest.mark.parametrize("make", [together, in_turns])
@pytest.mark.parametrize("seats", [(), ("odd",), ("*",)])
def test_worlds_keep_the_protocol(make: Any, seats: tuple[str, ...]) -> None:
    report = check_environment(make(seats=seats), num_tasks=2, reward_range=(-3, 3))
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("classic/rps-v2", {"max_cycles": 3}),
        ("classic/rps-v2", {"max_cycles": 3, "mode": "together"}),
        ("classic/tictactoe-v3", {}),
    ],
)
def test_real_environments_keep_the_protocol(family: str, options: dict[str, Any]) -> None:
    pytest.importorskip("pygame", reason="pettingzoo[classic] is not installed")
    report = check_environment(
        make_world("pettingzoo", family=family, options=options), num_tasks=2, reward_range=(-3, 3)
    )
    assert report.ok, str(report)


def test_real_tic_tac_toe_is_won_or_lost() -> None:
    pytest.importorskip("pygame", reason="pettingzoo[classic] is not installed")
    world = make_world("pettingzoo", family="classic/tictactoe-v3", options={"solved_at": 1})

    async def run() -> Verdict:
        async with Episode(world, world.tasks.task("train", 1)) as episode:
            turn: Turn | Done = await episode.begin()
            while isinstance(turn, Turn):
                legal = turn.seats["agent"][-1].content.rpartition("legal: ")[2].split(", ")
                turn = await episode.act({"agent": legal[0]})
            return await episode.judge()

    verdict = asyncio.run(run())
    assert verdict.reward in (-1.0, 0.0, 1.0) and verdict.completed is (verdict.reward == 1.0)


@pytest.mark.parametrize(
    ("family", "options", "complaint"),
    [
        ("os", {}, "no environment called 'os'"),
        ("classic/rsp-v2", {}, "did you mean 'classic/rps-v2'"),
        ("classic/rps-v2", {"mode": "both"}, "turns or together"),
        ("classic/rps-v2", {"seats": ["player_9"]}, "there are no such agents"),
        ("classic/rps-v2", {"max_cycle": 3}, "cannot make classic/rps-v2"),
        ("classic/tictactoe-v3", {"mode": "together"}, "in the mode together"),
        ("classic/tictactoe-v3", {"show": "ansi"}, "does not draw itself as text"),
    ],
)
def test_usual_mistakes_are_named(family: str, options: dict[str, Any], complaint: str) -> None:
    pytest.importorskip("pygame", reason="pettingzoo[classic] is not installed")
    with pytest.raises(RecipeError, match=complaint):
        make_world("pettingzoo", family=family, options=options)


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = pettingzoo.EnvSpec(id="classic/lost-v1", entry_point="no_such_module:env")
    monkeypatch.setitem(pettingzoo.aec_registry, spec.id, spec)
    with pytest.raises(RecipeError, match="is not installed") as caught:
        make_world("pettingzoo", family="classic/lost-v1")
    assert caught.value.next_step == "pip install 'pettingzoo[classic]'"
