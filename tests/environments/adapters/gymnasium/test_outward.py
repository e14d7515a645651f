"""Our worlds as Gymnasium environments; there and back again."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `gymnasium` is not installed")

from askesis.environments.adapters.gymnasium import as_gymnasium, gymnasium_world  # noqa: E402
from askesis.environments.fakes import Fault, FlakyEvaluator, make_echo_world  # noqa: E402
from askesis.environments.protocol import World  # noqa: E402
from askesis.errors import EnvironmentFault  # noqa: E402

LIMIT = 6


class Chain(gymnasium.Env[str, str]):
    """Five states in a row: ``r`` goes right, ``l`` left. The right end pays 1 and terminates; six steps truncate."""

    observation_space = gymnasium.spaces.Text(10)
    action_space = gymnasium.spaces.Text(1, charset="lr")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.steps = 1, 0
        return f"state {self.state}", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.state, self.steps = max(0, self.state + (1 if action == "r" else -1)), self.steps + 1
        done = self.state == 4
        return f"state {self.state}", 1.0 if done else -0.1, done, self.steps == LIMIT and not done, {}


def play(env: Any, acts: list[str], seed: int) -> tuple[float, bool, bool, int]:
    """Return, terminated, truncated and length."""
    env.reset(seed=seed)
    total = 0.0
    for number, act in enumerate(acts, start=1):
        _, reward, terminated, truncated, _ = env.step(act)
        total += reward
        if terminated or truncated:
            return total, terminated, truncated, number
    raise AssertionError("the episode did not end")


def test_there_and_back_gives_equal_returns_and_ends() -> None:
    there = as_gymnasium(gymnasium_world(Chain, family="chain", instruction=""))
    back = as_gymnasium(gymnasium_world(lambda: as_gymnasium(_chain()), family="again", instruction=""))
    rng = np.random.default_rng(0)
    ends = set()
    for seed in range(20):
        acts = ["r" if right else "l" for right in rng.random(LIMIT) < 0.7]
        direct = play(Chain(), acts, seed)
        for env in (there, back):
            through = play(env, acts, seed)
            assert through[0] == pytest.approx(direct[0], abs=1e-12)
            assert through[1:] == direct[1:]
        ends.add(direct[1:3])
    there.close()
    back.close()
    assert ends == {(True, False), (False, True)}


def _chain() -> World:
    return gymnasium_world(Chain, family="chain", instruction="")


def test_gymnasiums_own_checker_is_content() -> None:
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings(record=True) as complaints:
        warnings.simplefilter("always")
        check_env(as_gymnasium(make_echo_world()), skip_render_check=True)
    assert [str(c.message) for c in complaints if "should" in str(c.message)] == []


def test_the_reward_is_the_verdicts_and_comes_at_the_end() -> None:
    env = as_gymnasium(make_echo_world(turns=2))
    first, _ = env.reset(seed=3)
    word = first.splitlines()[-1]
    second, reward, terminated, truncated, _ = env.step(word)
    assert (reward, terminated, truncated) == (0.0, False, False)
    _, reward, terminated, truncated, info = env.step(second)
    assert (reward, terminated, truncated, info["completed"]) == (1.0, True, False, True)
    assert env.reset(seed=3)[0] == first != env.reset()[0]
    env.close()


def test_a_verdict_that_failed_is_no_reward_of_zero() -> None:
    echo = make_echo_world(turns=1)
    broken = World(
        name="broken",
        environment=echo.environment,
        evaluator=gymnasium_world(Chain, family="chain").evaluator,  # finds no payment
        tasks=echo.tasks,
    )
    env = as_gymnasium(broken)
    env.reset(seed=0)
    with pytest.raises(EnvironmentFault, match="the episode has no reward"):
        env.step("x")
    raising = as_gymnasium(
        World(
            name="r",
            environment=echo.environment,
            evaluator=FlakyEvaluator(echo.evaluator, {Fault.RAISE: 1.0}),
            tasks=echo.tasks,
        )
    )
    raising.reset(seed=0)
    with pytest.raises(RuntimeError, match="the flaky evaluator raised"):
        raising.step("x")
    env.close()
    raising.close()


def test_a_step_needs_a_reset() -> None:
    with pytest.raises(EnvironmentFault, match="before the first reset"):
        as_gymnasium(make_echo_world()).step("x")
