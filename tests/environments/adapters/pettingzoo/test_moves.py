"""What agents of PettingZoo may do."""

from __future__ import annotations

import numpy as np
import pytest

gymnasium = pytest.importorskip("gymnasium", reason="the extra `pettingzoo` is not installed")

from askesis.environments.adapters.game import IllegalAct  # noqa: E402
from askesis.environments.adapters.pettingzoo.moves import (  # noqa: E402
    RandomMover,
    legal_moves,
    parse_move,
    seen_text,
)

NINE = gymnasium.spaces.Discrete(9)


def test_the_mask_is_found_in_the_observation_or_the_info() -> None:
    mask = np.array([0, 1, 1], np.int8)
    assert legal_moves({"observation": 1, "action_mask": mask}, {}) == [1, 2]
    assert legal_moves(5, {"action_mask": mask}) == [1, 2]
    assert legal_moves(5, {}) is None


def test_the_mask_is_kept() -> None:
    assert parse_move(NINE, "2", [1, 2]) == 2
    assert parse_move(NINE, "8", None) == 8
    with pytest.raises(IllegalAct, match="write one of: 1, 2"):
        parse_move(NINE, "3", [1, 2])


def test_what_is_seen() -> None:
    masked = {"observation": np.array([[0, 1]]), "action_mask": np.array([1])}
    assert seen_text(masked, [0]) == "[[0, 1]]\nlegal: 0"
    assert seen_text({**masked, "turn": 3}, None) == '{"observation": [[0, 1]], "turn": 3}'
    assert seen_text(masked, [0], "board") == "board\nlegal: 0"


def test_random_moves_are_legal_and_named_by_the_seed() -> None:
    one, two = RandomMover(1), RandomMover(1)
    moves = [one(NINE, [2, 5, 7]) for _ in range(50)]
    assert moves == [two(NINE, [2, 5, 7]) for _ in range(50)]
    assert set(moves) == {2, 5, 7}
    box = gymnasium.spaces.Box(-1, 1, (2,))
    np.testing.assert_array_equal(RandomMover(3)(box, None), RandomMover(3)(box, None))
    shifted = gymnasium.spaces.Discrete(3, start=10)
    assert RandomMover(0)(shifted, [1]) == 11
