"""What charts and claims read of states."""

from __future__ import annotations

import pytest

from askesis.environments.fakes import make_echo_world
from askesis.environments.play import trace_of
from askesis.store import Group, Member
from askesis.trace import StateScore, Verdict, VerdictStatus
from askesis.training.state_metrics import ranking_area, state_metrics

TASK = make_echo_world().tasks.task("train", 0)


def member(index: int, values: list[float], truths: list[float] | None, reward: float) -> Member:
    states = tuple(
        StateScore(state=i, after=None if i == 0 else i - 1, value=v, truth=None if truths is None else truths[i])
        for i, v in enumerate(values)
    )
    verdict = Verdict(status=VerdictStatus.OK, evaluator="e", rewards={"r": (reward, 1.0)}, states=states)
    return Member(member_index=index, seed=0, trace=trace_of(TASK, ["ab"]), verdict=verdict)


def group(*members: Member) -> Group:
    return Group(group_id="g", run_id="r", purpose="train", step=0, task=TASK, members=members)


def test_values_by_depth_gains_and_the_last_states_distance_from_the_outcome() -> None:
    got = state_metrics(
        [group(member(0, [0.0, 0.5, 1.0], [0.0, 0.0, 1.0], 1.0), member(1, [0.5, 0.5], [0.0, 0.5], 0.0))]
    )
    assert (got["state_value_0"], got["state_value_1"], got["state_value_2"]) == (0.25, 0.5, 1.0)
    assert got["state_value_ready"] == 1.0
    assert got["state_gain"] == pytest.approx(1 / 3) and got["state_gain_zero"] == pytest.approx(1 / 3)
    assert got["state_outcome_gap"] == 0.25 and got["answer_tokens"] == 0.0
    # Turns: gain 0.5 found nothing, 0.5 found a fact, 0 found a fact.
    assert got["gain_auc"] == 0.25


def test_nothing_is_said_without_scores_and_no_area_without_truth() -> None:
    assert state_metrics([group(member(0, [], None, 1.0))]) == {}
    assert state_metrics([group(member(0, [0.0, 1.0], None, 1.0))])["gain_auc"] is None


def test_the_area_is_the_chance_of_the_right_order() -> None:
    assert ranking_area([0.9, 0.1, 0.4], [True, False, False]) == 1.0
    assert ranking_area([0.0, 1.0], [True, False]) == 0.0
    assert ranking_area([0.5, 0.5], [True, False]) == 0.5
    assert ranking_area([0.2, 0.3, 0.3, 0.8], [False, True, False, True]) == pytest.approx(3.5 / 4)
    assert ranking_area([1.0, 2.0], [True, True]) is None
