"""Schedules side by side, and their picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.diffusion.comparing import Comparison, compare, draw_comparison
from askesis.diffusion.mixtures import circle_mixture
from askesis.diffusion.sampling import Solver, reference, root_mean_square_error, sample
from askesis.diffusion.schedules import HAND_MADE, make_schedule
from askesis.diffusion.targets import start_noise

NOISE = start_noise(64, (2,), 80.0, seed=0, name="test")
MINE = make_schedule("edm", 12)


@pytest.fixture(scope="module")
def compared() -> Comparison:
    return compare(circle_mixture(), NOISE, {"mine": MINE}, (4, 8), sigma_max=80.0, sigma_min=0.002)


def test_every_schedule_is_measured_at_every_number_of_steps(compared: Comparison) -> None:
    assert set(compared.errors) == {*HAND_MADE, "art_oracle", "mine"}
    assert all(len(values) == 2 for values in compared.errors.values())
    exact = reference(circle_mixture(), NOISE[32:], sigma_max=80.0, sigma_min=0.002)
    by_hand = root_mean_square_error(sample(circle_mixture(), NOISE[32:], MINE.resampled(4).sigmas), exact)
    assert compared.errors["mine"][0] == pytest.approx(by_hand)
    assert compared.errors["art_oracle"][0] < min(compared.errors[name][0] for name in HAND_MADE)
    assert compared.schedules["mine"].num_steps == 8 and compared.evaluations == (4, 8)


def test_heun_counts_its_evaluations() -> None:
    found = compare(circle_mixture(), NOISE[:8], {}, (3,), solver=Solver.HEUN, sigma_max=80.0, sigma_min=0.002)
    assert found.evaluations == (5,)


@pytest.mark.opt_in
def test_the_picture_is_the_same_every_time(compared: Comparison, tmp_path: Path) -> None:
    first, second = tmp_path / "deep" / "a.svg", tmp_path / "b.svg"
    draw_comparison(compared, first)
    draw_comparison(compared, second)
    text = first.read_bytes()
    assert text == second.read_bytes() and text.startswith(b"<?xml")


def test_images_are_drawn_as_images(tmp_path: Path) -> None:
    noise = start_noise(20, (64,), 1.0, seed=0, name="images").clamp(-1, 1)
    schedule = make_schedule("edm", 3)
    pictures = Comparison(
        steps=(3,), solver=Solver.EULER, errors={"edm": (1.0,)}, schedules={"edm": schedule},
        samples={"exact": noise, "edm": noise},
    )  # fmt: skip
    path = tmp_path / "digits.png"
    draw_comparison(pictures, path)
    assert path.read_bytes().startswith(b"\x89PNG")
