"""From the seconds of each step to a picture of where the time went."""

from __future__ import annotations

import pytest

from askesis.training.report.timeline import is_phase, metric_name, timeline_of

SERIES = {
    "time_sampling_s": [(1, 2.0), (2, 4.0)],
    "time_environment_s": [(1, 0.0), (2, 0.0)],
    "time_learner_s": [(1, 1.0), (2, 1.0)],
    "time_other_s": [(1, 0.5), (2, 0.5)],
    "time_evaluation_s": [(0, 3.0), (2, 4.0)],
    "loss": [(1, 9.0), (2, 9.0)],
}


def test_phases_follow_one_another_and_add_up() -> None:
    timeline = timeline_of(SERIES)
    assert timeline is not None
    assert [s.name for s in timeline.spans] == ["sampling", "learner", "other", "evaluation"]
    assert (timeline.num_steps, timeline.total_s, timeline.step_median_s) == (2, 16.0, 4.5)
    sampling, learner, other, evaluation = timeline.spans
    assert (sampling.total_s, sampling.median_s, sampling.last_s, sampling.share) == (6.0, 3.0, 4.0, 0.375)
    assert (sampling.start, learner.start, other.start, evaluation.start) == (0, 0.375, 0.5, 0.5625)
    assert evaluation.start + evaluation.share == pytest.approx(1)
    assert not evaluation.in_step and evaluation.times == 2 and learner.in_step
    assert timeline.widest is evaluation


def test_a_run_without_such_metrics_has_no_timeline() -> None:
    assert timeline_of({"loss": [(1, 0.5)]}) is None
    assert timeline_of({"time_evaluation_s": [(0, 1.0)]}) is None
    assert timeline_of({"time_other_s": [(1, None)]}) is None


def test_names() -> None:
    assert metric_name("store") == "time_store_s" and is_phase("time_store_s")
    assert not is_phase("time_to_think_s") and not is_phase("store")
