"""Group names and seeds; metrics of a step."""

from __future__ import annotations

import pytest

from askesis.environments.fakes import make_echo_world
from askesis.environments.play import trace_of
from askesis.errors import AskesisError
from askesis.store import Group, Member
from askesis.trace import Failure, FailureOrigin, Verdict, VerdictStatus
from askesis.training.groups import group_specs, is_constant, refuse_failures, rollout_metrics

WORLD = make_echo_world()
TASK = WORLD.tasks.task("train", 0)
FAILURE = Failure(origin=FailureOrigin.TOOL, kind="timeout", message="too slow")


def member(index: int, reward: float | None, completed: bool = False) -> Member:
    if reward is None:
        verdict = Verdict(status=VerdictStatus.ERROR, evaluator="e", error=FAILURE)
    else:
        verdict = Verdict(status=VerdictStatus.OK, evaluator="e", rewards={"r": (reward, 1.0)}, completed=completed)
    return Member(member_index=index, seed=0, trace=trace_of(TASK, ["ab"]), verdict=verdict)


def group(*members: Member) -> Group:
    return Group(group_id="g", run_id="r", purpose="train", step=0, task=TASK, members=members)


def test_specs_are_named_by_place_and_seeded_apart() -> None:
    tasks = [WORLD.tasks.task("train", i) for i in range(3)]
    specs = group_specs("r", "train", 12, tasks, 4, seed=1)
    assert [s.group_id for s in specs] == ["r/train/000012/0000", "r/train/000012/0001", "r/train/000012/0002"]
    others = group_specs("r", "train", 13, tasks, 4, seed=1) + group_specs("r", "evaluation", 12, tasks, 4, seed=1)
    later = group_specs("r", "train", 12, tasks, 4, seed=1, first_place=3)
    assert [s.group_id[-4:] for s in later] == ["0003", "0004", "0005"]
    assert len({s.seed for s in specs + others + later}) == 12


def test_a_group_is_constant_when_its_rewards_cannot_be_told_apart() -> None:
    assert is_constant(group(member(0, 1.0), member(1, 1.0), member(2, None)))
    assert is_constant(group(member(0, None)))
    assert not is_constant(group(member(0, 1.0), member(1, 0.5)))


def test_failed_sessions_enter_no_mean() -> None:
    metrics = rollout_metrics([group(member(0, 1.0, True), member(1, 0.0), member(2, None))])
    assert metrics["reward_mean"] == metrics["accuracy"] == 0.5
    assert metrics["failures"] == 1.0 and metrics["failed_share"] == pytest.approx(1 / 3)
    nothing = rollout_metrics([group(member(0, None))])
    assert nothing["reward_mean"] is None and nothing["accuracy"] is None


def test_total_failure_stops_a_run() -> None:
    refuse_failures([], "train", 0, 1.0)
    refuse_failures([group(member(0, 0.0), member(1, None))], "train", 0, 1.0)
    with pytest.raises(AskesisError, match="every session failed") as caught:
        refuse_failures([group(member(0, None), member(1, None))], "train", 3, 1.0)
    assert "2 x tool/timeout" in str(caught.value.got) and caught.value.next_step == "too slow"


def test_more_failures_than_allowed_stop_a_run_with_the_commonest_cause() -> None:
    rare = Failure(origin=FailureOrigin.ENGINE, kind="EngineError", message="gone")
    odd = Member(
        member_index=4,
        seed=0,
        trace=trace_of(TASK, ["ab"]),
        verdict=Verdict(status=VerdictStatus.ERROR, evaluator="e", error=rare),
    )
    groups = [group(odd, member(0, 0.0), member(1, 1.0)), group(member(2, None), member(3, None))]
    refuse_failures(groups, "train", 7, 0.6)  # the share itself is allowed
    with pytest.raises(AskesisError, match="3 of 5 sessions failed") as caught:
        refuse_failures(groups, "train", 7, 0.5)
    said = str(caught.value)
    assert caught.value.got == "2 x tool/timeout, 1 x engine/EngineError" and "train, step 7" in said
    assert "rollout.max_failed=0.5" in said and "too slow" in said and "gone" not in said
    with pytest.raises(AskesisError):
        refuse_failures([group(member(0, 0.0), member(1, None))], "train", 0, 0.0)
    late = Verdict(status=VerdictStatus.PENDING, evaluator="later")
    waiting = Member(member_index=5, seed=0, trace=trace_of(TASK, ["ab"]), verdict=late)
    refuse_failures([group(waiting, member(0, 0.0))], "train", 0, 0.0)  # no verdict yet is no failure
