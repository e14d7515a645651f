"""Verdicts on numbers whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest

from askesis.claims import Direction
from askesis.claims.judging import judge
from askesis.evaluation import MetricError


def runs(make_run: Any, **right: list[list[int]]) -> list[Any]:
    return [make_run(arm, seed, tasks) for arm, seeds in right.items() for seed, tasks in enumerate(seeds)]


def test_an_effect_is_paired_by_seed_and_task(make_study: Any, make_run: Any) -> None:
    # Seeds and tasks differ much, the arms always by one answer of four: the paired interval has no width.
    found = judge(
        make_study(),
        "laptop",
        3,
        runs(
            make_run,
            ours=[[1, 4], [3, 2], [4, 4]],
            nsr=[[0, 3], [2, 1], [3, 3]],
            psr=[[0, 0], [0, 0], [0, 0]],
        ),
        wall_s=2.0,
    )
    assert found.holds is True and found.parts[0].rival == "nsr"
    assert found.parts[0].effect == (0.25, 0.25, 0.25, (0.25, 0.25, 0.25))
    ours, nsr, psr = found.arms
    assert ours.metrics["pass@1"].per_seed == (0.625, 0.625, 1.0) and ours.lead is None
    assert nsr.lead is not None and psr.lead is not None and psr.lead["pass@1"].mean == pytest.approx(0.75)
    assert ours.cost == 101 and ours.curve.steps == (1, 2, 3)
    assert ours.curve.mean == (0.5, None, 0.6) and ours.curve.low == (0.5, None, 0.6)


def test_a_claim_that_one_seed_contradicts_fails_and_says_why(make_study: Any, make_run: Any) -> None:
    found = judge(
        make_study(),
        "laptop",
        3,
        runs(make_run, ours=[[4, 4], [4, 4], [0, 0]], nsr=[[2, 2]] * 3, psr=[[1, 1]] * 3),
        wall_s=0.0,
    )
    assert found.holds is False
    assert found.reason == ("pass@1, easy: method minus nsr is +16.7 [-50.0, +50.0] points and should lie above 0.")


@pytest.mark.parametrize(
    ("direction", "margin", "ours", "holds"),
    [
        (Direction.ABOVE, 0.0, 3, True),
        (Direction.ABOVE, 0.0, 2, False),
        (Direction.BELOW, 0.0, 1, True),
        (Direction.BELOW, 0.0, 2, False),
        (Direction.NOT_BELOW, 0.3, 1, True),
        (Direction.NOT_BELOW, 0.2, 1, False),
        (Direction.NOT_ABOVE, 0.3, 3, True),
        (Direction.NOT_ABOVE, 0.2, 3, False),
    ],
)
def test_directions(
    make_study: Any, make_run: Any, direction_part: Any, direction: Direction, margin: float, ours: int, holds: bool
) -> None:
    study = make_study(parts=(direction_part(direction, margin),))
    found = judge(study, "laptop", 3, runs(make_run, ours=[[ours]] * 3, nsr=[[2]] * 3, psr=[[0]] * 3), wall_s=0.0)
    assert found.holds is holds and found.parts[0].effect.mean == (ours - 2) / 4


def test_every_part_must_hold(make_study: Any, make_run: Any, direction_part: Any) -> None:
    parts = (direction_part(Direction.ABOVE, against="psr"), direction_part(Direction.ABOVE, against="nsr"))
    found = judge(
        make_study(parts=parts),
        "laptop",
        3,
        runs(make_run, ours=[[2]] * 3, nsr=[[3]] * 3, psr=[[1]] * 3),
        wall_s=0.0,
    )
    assert [p.holds for p in found.parts] == [True, False] and found.holds is False and "nsr" in found.reason


def test_a_small_scale_is_not_judged(make_study: Any, make_run: Any) -> None:
    found = judge(make_study(), "smoke", 1, runs(make_run, ours=[[4]], nsr=[[0]], psr=[[0]]), wall_s=0.0)
    assert found.holds is None and found.parts[0].holds and "too small" in found.reason


def test_runs_on_different_tasks_are_not_compared(make_study: Any, make_run: Any) -> None:
    with pytest.raises(MetricError, match="different tasks"):
        judge(make_study(), "smoke", 1, runs(make_run, ours=[[4, 4]], nsr=[[0]], psr=[[0]]), wall_s=0.0)
