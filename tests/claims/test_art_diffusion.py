"""A trial of the claim in small, and what its arms share."""

from __future__ import annotations

import pytest

from askesis.claims.art_diffusion import EULER, STUDY, run
from askesis.claims.experiment import Role
from askesis.diffusion import HAND_MADE

TINY = {"num_samples": 12, "reference_steps": 12, "iterations": 1, "batch": 4, "training_steps": 1}


@pytest.mark.parametrize(
    ("setting", "laws"),
    [("2 dimensions", 1), ("unseen mixtures", 3), pytest.param("digits", 1, marks=pytest.mark.opt_in)],
)
def test_every_arm_is_measured_on_the_same_laws(setting: str, laws: int) -> None:
    trials = {arm.name: run(setting, arm.name, 0, TINY) for arm in STUDY.arms}
    for trial in trials.values():
        assert set(trial.metrics) == {metric.name for metric in STUDY.metrics}
        assert all(len(trial.metrics[f"error at {num}"]) == 2 * laws for num in EULER)
        assert len(trial.metrics["Fréchet at 5"]) == laws
        assert len(trial.curve) == 18 and trial.curve[0][1] == pytest.approx(1.90309)
    # Only what is made for the data costs anything.
    assert {name for name, trial in trials.items() if trial.cost > 0} == {"art_rl", "art_oracle"}
    assert trials["uniform"].metrics["error at 18"][0] > trials["art_oracle"].metrics["error at 18"][0]


def test_a_trial_is_a_function_of_its_seed() -> None:
    first, same, other = (run("2 dimensions", "edm", seed, TINY).metrics["error at 5"] for seed in (0, 0, 1))
    assert first == same != other


def test_resampled_baselines_are_told_from_the_plain_ones() -> None:
    plain, resampled = (run("16 dimensions", arm, 0, TINY) for arm in ("edm", "edm_20"))
    assert sum(resampled.metrics["error at 5"]) < sum(plain.metrics["error at 5"])  # type: ignore[arg-type]


def test_every_setting_is_judged_against_all_hand_made_schedules() -> None:
    assert {part.setting for part in STUDY.parts} == {setting.name for setting in STUDY.settings}
    assert all(part.against is None for part in STUDY.parts)
    baselines = {arm.name for arm in STUDY.arms if arm.role is Role.BASELINE}
    assert baselines == {*HAND_MADE, "edm_20", "dpm_20"}
    assert STUDY.method.name == "art_rl" and STUDY.parts[0].metric == "error at 5"
