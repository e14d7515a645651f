"""Hand-made schedules against worked numbers, resampling, and the file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.diffusion.schedules import HAND_MADE, DiffusionError, Schedule, arctan_schedule, make_schedule
from diffusion.gaussian import error

EULER = {
    2: (0.49488, 0.49488, 0.49488, 0.49488, 0.24844),
    5: (0.48551, 0.21978, 0.26637, 0.24354, 0.11016),
    10: (0.46994, 0.12762, 0.13478, 0.18701, 0.05782),
    20: (0.43920, 0.06507, 0.06945, 0.09687, 0.02971),
    50: (0.35366, 0.02632, 0.02818, 0.04008, 0.01209),
    100: (0.24587, 0.01321, 0.01415, 0.02026, 0.00608),
}
HEUN = {
    5: (9.51, 1.116, 0.758, 3.80, 1.188),
    10: (3.97, 0.1194, 0.1098, 0.297, 0.1605),
    18: (1.90, 0.0287, 0.0276, 0.0733, 0.0297),
}
NAMES = ("uniform", "dpm", "edm", "cosine", "arctan")


def made(name: str, num_steps: int) -> Schedule:
    return arctan_schedule(num_steps, data_std=0.5) if name == "arctan" else make_schedule(name, num_steps)


@pytest.mark.parametrize("num_steps", EULER)
def test_euler_errors_of_a_gaussian_are_the_worked_ones(num_steps: int) -> None:
    found = [error(made(name, num_steps).sigmas) for name in NAMES]
    assert found == pytest.approx(EULER[num_steps], abs=6e-6)


@pytest.mark.parametrize("num_steps", HEUN)
def test_heun_errors_of_a_gaussian_are_the_worked_ones(num_steps: int) -> None:
    found = [error(made(name, num_steps).sigmas, heun=True) for name in NAMES]
    assert found == pytest.approx(HEUN[num_steps], rel=5e-3)


def test_two_steps_of_all_ramps_are_the_same() -> None:
    for name in HAND_MADE:
        assert make_schedule(name, 2).sigmas == pytest.approx((80.0, 0.002, 0.0))


def test_edm_of_three_steps_by_hand() -> None:
    middle = ((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7
    assert make_schedule("edm", 3).sigmas == pytest.approx((80.0, middle, 0.002, 0.0))
    assert make_schedule("dpm", 3).sigmas == pytest.approx((80.0, 0.4, 0.002, 0.0))
    assert make_schedule("cosine", 3).sigmas == pytest.approx((80.0, 0.4, 0.002, 0.0))
    assert make_schedule("uniform", 3).sigmas == pytest.approx((80.0, 40.001, 0.002, 0.0))


def test_equal_angles_are_the_best_euler_grid_of_a_gaussian() -> None:
    best = arctan_schedule(5, data_std=0.5)
    assert error(best.sigmas) == pytest.approx(0.5 * (1 - math.cos(math.atan(160) / 5) ** 5))
    for place in range(1, 5):
        for factor in (0.98, 1.02):
            moved = list(best.sigmas)
            moved[place] *= factor
            assert error(moved) > error(best.sigmas)


@given(
    name=st.sampled_from(HAND_MADE),
    num_steps=st.integers(2, 60),
    top=st.floats(0.5, 1000),
    ratio=st.floats(1e-6, 0.5),
)
def test_every_hand_made_schedule_falls_to_zero(name: str, num_steps: int, top: float, ratio: float) -> None:
    schedule = make_schedule(name, num_steps, sigma_max=top, sigma_min=ratio * top)
    assert schedule.num_steps == num_steps
    assert schedule.sigmas[0] == top and schedule.sigmas[-1] == 0
    assert schedule.sigmas[-2] == pytest.approx(ratio * top)
    assert (np.diff(schedule.sigmas) < 0).all()


def test_resampling_to_the_same_number_changes_nothing() -> None:
    schedule = make_schedule("edm", 18)
    assert schedule.resampled(18).sigmas == pytest.approx(schedule.sigmas)


def test_resampling_by_hand() -> None:
    four = Schedule(name="x", sigmas=(16.0, 4.0, 1.0, 0.5, 0.0))
    assert four.resampled(2).sigmas == pytest.approx((16.0, 1.0, 0.0))
    assert four.resampled(1).sigmas == (16.0, 0.0)
    # Between levels in the logarithm, on the way to 0 along a line.
    eight = (16.0, 8.0, 4.0, 2.0, 1.0, math.sqrt(0.5), 0.5, 0.25, 0.0)
    assert four.resampled(8).sigmas == pytest.approx(eight)
    assert four.resampled(2).provenance["resampled_from"] == 4


@given(num_steps=st.integers(2, 40), wanted=st.integers(1, 60))
def test_resampled_schedules_are_schedules(num_steps: int, wanted: int) -> None:
    assert make_schedule("edm", num_steps).resampled(wanted).num_steps == wanted


def test_a_file_gives_back_the_same_schedule(tmp_path: Path) -> None:
    schedule = Schedule(name="mine", sigmas=(3.0, 0.1 + 0.2, 0.0), provenance={"seed": 3})
    path = tmp_path / "deep" / "s.json"
    schedule.save(path)
    assert Schedule.load(path) == schedule


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[]", "no schedule of this format"),
        ('{"format": "askesis.schedule", "version": 2}', "no schedule of this format"),
        ('{"format": "askesis.schedule", "version": 1, "sigmas": ["1", 0]}', "not numbers"),
        ('{"format": "askesis.schedule", "version": 1, "sigmas": [1, 2, 0]}', "do not run down"),
        ('{"format": "askesis.schedule", "version": 1, "sigmas": [NaN, 0]}', "do not run down"),
    ],
)
def test_a_file_that_is_no_schedule_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(DiffusionError, match=says):
        Schedule.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DiffusionError, match="askesis schedule learn"):
        Schedule.load(tmp_path / "none.json")


@pytest.mark.parametrize("sigmas", [(), (1.0,), (1.0, 0.5), (1.0, 1.0, 0.0), (math.inf, 0.0), (1.0, -1.0, 0.0)])
def test_levels_that_are_no_schedule_are_refused(sigmas: tuple[float, ...]) -> None:
    with pytest.raises(DiffusionError):
        Schedule(name="bad", sigmas=sigmas)


def test_wrong_calls_name_the_cause() -> None:
    with pytest.raises(DiffusionError, match="did you mean 'cosine'"):
        make_schedule("cosin", 5)
    with pytest.raises(DiffusionError, match="too few steps"):
        make_schedule("edm", 1)
    with pytest.raises(DiffusionError, match="no range"):
        make_schedule("edm", 5, sigma_max=1.0, sigma_min=2.0)
    with pytest.raises(DiffusionError, match="too few steps"):
        make_schedule("edm", 5).resampled(0)


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    make_schedule("edm", 2).save(path)
    document = json.loads(path.read_text())
    assert document["sigmas"] == [80.0, pytest.approx(0.002), 0.0] and document["version"] == 1
