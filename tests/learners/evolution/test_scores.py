"""Rewards to weights: by hand, without comparison, and with sessions that failed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.learners.evolution.scores import centred, member_scores, raw, z_scores

REWARDS = st.lists(st.integers(-50, 50).map(lambda n: n / 8), min_size=2, max_size=9)


def test_two_members_are_plus_and_minus_one() -> None:
    assert z_scores([0.7, 0.2]) == pytest.approx([1.0, -1.0], abs=1e-6)


def test_the_standard_deviation_is_the_populations() -> None:
    assert z_scores([0.9, 0.5, 0.1, 0.5]) == pytest.approx([1.414214, 0.0, -1.414214, 0.0], abs=1e-6)
    assert centred([0.9, 0.5, 0.1, 0.5]) == pytest.approx([0.4, 0.0, -0.4, 0.0])


@settings(deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(1, 9))
def test_equal_scores_give_exact_zeros(value: float, size: int) -> None:
    assert z_scores([value] * size) == [0.0] * size == centred([value] * size)


@settings(deadline=None)
@given(REWARDS, st.floats(0.25, 8), st.floats(-4, 4))
def test_scale_and_level_of_the_rewards_do_not_matter(rewards: list[float], a: float, b: float) -> None:
    moved = z_scores([a * r + b for r in rewards])
    assert moved == pytest.approx(z_scores(rewards), abs=1e-5)
    assert z_scores([-r for r in rewards]) == pytest.approx([-z for z in z_scores(rewards)])


@settings(deadline=None)
@given(REWARDS)
def test_z_scores_have_mean_zero_and_deviation_one(rewards: list[float]) -> None:
    scores = z_scores(rewards)
    assert sum(scores) == pytest.approx(0.0, abs=1e-9)
    spread = sum(z * z for z in scores) / len(scores)
    assert spread == (0.0 if len(set(rewards)) == 1 else pytest.approx(1.0, abs=1e-5))


def test_a_member_without_a_score_takes_no_part() -> None:
    assert z_scores([0.7, None, 0.2]) == pytest.approx([1.0, 0.0, -1.0], abs=1e-6)
    assert centred([1.0, None, 0.0]) == [0.5, 0.0, -0.5]
    assert raw([1.0, None, 0.25]) == [1.0, 0.0, 0.25]
    assert z_scores([None, None]) == [0.0, 0.0] == centred([None, None])


def test_a_members_score_is_its_mean_reward() -> None:
    assert member_scores([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]) == [0.75, 0.5]
    assert member_scores([]) == []


def test_missing_a_hard_task_is_no_merit() -> None:
    # Both solve the easy task and neither the hard one; only the second was asked the hard one's like.
    easy, hard = [1.0, 1.0, 1.0], [0.0, 0.0, None]
    assert member_scores([easy, hard]) == pytest.approx([0.5, 0.5, 0.5])
    assert member_scores([[1.0, 0.0], [None, 0.5]]) == pytest.approx([1.0, 0.25])


def test_a_member_that_was_never_judged_has_no_score() -> None:
    assert member_scores([[1.0, None], [0.0, None]]) == [0.5, None]
    assert member_scores([[None, None]]) == [None, None]
