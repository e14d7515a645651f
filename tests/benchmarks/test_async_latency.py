"""The comparison of both ways to train: the same steps on both sides, and a verdict by its own rules."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.async_latency import OVERLAPPING, Run, compare, play


def run(rate: float, solved: list[float]) -> Run:
    return Run(steps_per_s=rate, sampling_s=1.0, solved=solved, staleness=1.0, corrected=0.25)


@pytest.mark.opt_in
def test_both_sides_train_and_are_measured(tiny_folder: Path) -> None:
    small = ["training.steps=2", "rollout.groups_per_step=2", "rollout.group_size=2", "sampling.max_tokens=3"]
    small += ["training.warmup_steps=0", "run.threads=1", "training.max_drift=1e-3"]
    found = [play([*small, *more], mean_s=0.01, num_tasks=2, policy=str(tiny_folder)) for more in ([], OVERLAPPING)]
    for one in found:
        assert one.steps_per_s > 0 and one.sampling_s > 0 and len(one.solved) == 2
    assert found[0].staleness == 0.0


@pytest.mark.parametrize(("rate", "solved", "holds"), [(3.0, 1.0, True), (2.0, 1.0, False), (3.0, 0.0, False)])
def test_it_holds_when_it_is_fast_and_learns_as_much(rate: float, solved: float, holds: bool) -> None:
    slow = [run(1.0, [1.0] * 20) for _ in range(3)]
    record = compare({"synchronous": slow, "asynchronous": [run(rate, [solved] * 20) for _ in range(3)]}, mean_s=2.0)
    assert record["ratio"] == rate and record["holds"] is holds
    assert record["reward_difference"]["mean"] == solved - 1.0
    assert (record["staleness"], record["corrected_share"]) == (1.0, 0.25)
