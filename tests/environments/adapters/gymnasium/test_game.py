"""One Gymnasium environment as a game."""

from __future__ import annotations

from typing import Any

import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `gymnasium` is not installed")

from askesis.environments.adapters.gymnasium.game import GymnasiumGame  # noqa: E402
from askesis.trace.types import StopReason  # noqa: E402


class Ends(gymnasium.Env[int, int]):
    """Ends as it is told to: action 1 terminates, 2 truncates, 3 both."""

    observation_space = gymnasium.spaces.Discrete(10)
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        return int(self.np_random.integers(10)), {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return action, 0.5 * action, action in (1, 3), action in (2, 3), {"n": 1}


@pytest.mark.parametrize(
    ("action", "stop", "reason"),
    [
        (0, None, ""),
        (1, StopReason.TERMINATED, ""),
        (2, StopReason.ENVIRONMENT_LIMIT, "truncated"),
        (3, StopReason.TERMINATED, ""),
    ],
)
def test_terminated_and_truncated_are_kept_apart(action: int, stop: StopReason | None, reason: str) -> None:
    game = GymnasiumGame(Ends(), seed=1)
    game.begin()
    beat = game.play({"agent": action})
    assert (beat.stop, beat.reason, beat.paid) == (stop, reason, {"agent": 0.5 * action})
    assert bool(beat.seen) is (stop is None)


def test_the_seed_sets_the_game_up() -> None:
    begun = [GymnasiumGame(Ends(), seed=seed).begin().seen["agent"] for seed in (1, 1, 2, 3, 4)]
    assert begun[0] == begun[1] and len(set(begun)) > 1


def test_a_drawing_is_shown_when_asked_for() -> None:
    game = GymnasiumGame(gymnasium.make("FrozenLake-v1", render_mode="ansi"), seed=0, show="ansi")
    assert game.begin().seen == {"agent": "[S]FFF\nFHFH\nFFFH\nHFFG"}
    game.close()
