"""Between the spaces of Gymnasium and text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

gymnasium = pytest.importorskip("gymnasium", reason="the extra `gymnasium` is not installed")

from askesis.environments.adapters.game import IllegalAct  # noqa: E402
from askesis.environments.adapters.gymnasium.codec import (  # noqa: E402
    check_draws,
    describe_action,
    observation_text,
    parse_action,
    plain_rendering,
)
from askesis.errors import RecipeError  # noqa: E402

S = gymnasium.spaces
FOUR = S.Discrete(4, start=1)
BOX = S.Box(-1, 1, (2,), np.float32)
DEEP = S.Dict({"go": S.Discrete(2), "where": S.Tuple((S.MultiDiscrete([3, 3]), BOX))})


@pytest.mark.parametrize(
    ("space", "text", "action"),
    [
        (FOUR, "1", 1),
        (FOUR, "+4", 4),
        (S.Text(3, charset="abc"), "ab", "ab"),
        (BOX, "[0.5, -1]", np.array([0.5, -1], np.float32)),
        (S.Box(-2, 2, (1,), np.float32), "1.5", np.array([1.5], np.float32)),
        (S.MultiBinary(2), "[1, 0]", np.array([1, 0])),
        (S.MultiDiscrete([3, 3]), "[2, 0]", np.array([2, 0])),
    ],
)
def test_legal_texts(space: object, text: str, action: object) -> None:
    np.testing.assert_array_equal(parse_action(space, text), action)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (FOUR, "0"),
        (FOUR, "5"),
        (FOUR, "1.0"),
        (FOUR, "left"),
        (FOUR, "٣"),
        (FOUR, "9" * 100_000),
        (S.Text(3, charset="abc"), "abcd"),
        (S.Text(3, charset="abc"), "x"),
        (BOX, "[2, 0]"),
        (BOX, "[0]"),
        (BOX, "[NaN, 0]"),
        (BOX, '["a", 0]'),
        (BOX, "[true, false]"),
        (BOX, "[[0, [0]]]"),
        (BOX, "[" * 5000),
        (S.MultiDiscrete([3, 3]), "[0.5, 0]"),
        (S.MultiDiscrete([3, 3]), "[3, 0]"),
        (DEEP, '{"go": 1}'),
        (DEEP, '{"go": 1, "where": [[0, 0]]}'),
        (DEEP, '{"go": 2, "where": [[0, 0], [0, 0]]}'),
    ],
)
def test_illegal_texts_say_what_is_legal(space: object, text: str) -> None:
    with pytest.raises(IllegalAct, match="write "):
        parse_action(space, text)


def test_spaces_within_spaces() -> None:
    action = parse_action(DEEP, '{"where": [[2, 1], [0.5, 0]], "go": 1}')
    assert action["go"] == 1 and DEEP.contains(action)
    np.testing.assert_array_equal(action["where"][0], [2, 1])


def test_names_of_actions_have_no_case() -> None:
    names = ("left", "down", "right", "up")
    assert [parse_action(FOUR, name.upper(), names) for name in names] == [1, 2, 3, 4]
    with pytest.raises(IllegalAct, match="one of: left, down, right, up"):
        parse_action(FOUR, "1", names)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    for space in (FOUR, BOX, DEEP, S.MultiBinary(3), S.Text(5)):
        try:
            assert space.contains(parse_action(space, text))
        except IllegalAct as error:
            assert str(error)


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ("as it is", "as it is"),
        (np.int64(3), "3"),
        (np.array([0.123456, 100_000.0], np.float32), "[0.1235, 100000.0]"),
        ({"b": np.array([True]), "a": (1, "x")}, '{"b": [true], "a": [1, "x"]}'),
        (float("inf"), '"inf"'),
    ],
)
def test_observations(observation: object, text: str) -> None:
    assert observation_text(observation) == text


def test_what_is_coloured_stands_in_brackets() -> None:
    assert plain_rendering("  (Down)\n\x1b[41mS\x1b[0mF\n\x1b[2K") == "  (Down)\n[S]F"


def test_what_can_be_written_is_described() -> None:
    assert describe_action(FOUR) == "a whole number from 1 to 4"
    assert describe_action(BOX) == "a JSON list of shape [2] with numbers from -1.0 to 1.0"
    assert describe_action(S.Box(-2, 2, (1,))) == "a number from -2.0 to 2.0"
    assert describe_action(S.Text(9, min_length=2)) == "a text of 2 to 9 characters"
    assert describe_action(S.MultiBinary(2)) == "JSON that fits MultiBinary(2)"


def test_an_environment_that_does_not_draw_is_not_shown_drawn() -> None:
    env = gymnasium.make("CartPole-v1")
    check_draws(env, "observation")
    with pytest.raises(RecipeError, match="does not draw itself as text"):
        check_draws(env, "ansi")
