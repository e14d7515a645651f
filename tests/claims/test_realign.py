"""The worlds of the claim, and one trial of each kind at its smallest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from askesis.claims.realign import STUDY, make_trial_world, run

SIZES = (300, 200, 60, 3)


def options(name: str) -> dict[str, Any]:
    arm = next(arm for arm in STUDY.arms if arm.name == name)
    return {**STUDY.scale("smoke").overrides, **arm.overrides}


@pytest.mark.parametrize("setting", [setting.name for setting in STUDY.settings])
def test_statistics_and_measures_are_of_different_rows(setting: str) -> None:
    world = make_trial_world(setting, 900, *SIZES)
    rows = {
        name: {row.tobytes() for row in getattr(world, name)}
        for name in world._fields
        if name.endswith("s")
        and getattr(world, name) is not world.values
        and getattr(world, name).ndim == 2
        and "labels" not in name
    }
    images = [found for name, found in rows.items() if "images" in name]
    assert len(images) == 3 and not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]
    assert make_trial_world(setting, 900, *SIZES) is world
    assert world.test_images.shape == world.test_texts.shape and world.test_images.dtype == np.float32


@pytest.mark.parametrize("arm", [arm.name for arm in STUDY.arms])
def test_every_arm_gives_every_metric_for_every_item(arm: str) -> None:
    trial = run("synthetic", arm, 900, options(arm))
    assert set(trial.metrics) == {metric.name for metric in STUDY.metrics}
    assert len(trial.metrics["accuracy"]) == len(trial.metrics["neighbours kept"]) == 60
    assert len(trial.metrics["gap"]) == 1


def test_the_method_closes_the_gap_and_the_untouched_texts_do_not() -> None:
    ours, none = (run("synthetic", arm, 900, options(arm)).metrics for arm in ("realign", "none"))
    assert ours["gap"][0] < 0.4 * none["gap"][0] and ours["gap of the fit"][0] < 0.1 * none["gap of the fit"][0]
    assert np.mean(none["neighbours kept"]) == 1.0
