"""The small real model, and its distance."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
import torch

from askesis.diffusion.digits import Digits, PixelNetwork, frechet_distance, load_digits, train_digits_denoiser
from askesis.diffusion.sampling import sample
from askesis.diffusion.schedules import DiffusionError, make_schedule
from askesis.errors import MissingExtra
from askesis.streams import generator
from diffusion.models import quick_digits


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load_digits()


def test_the_images_and_their_split(digits: Digits) -> None:
    assert digits.train_BD.shape == (1347, 64) and digits.held_out_BD.shape == (450, 64)
    assert float(digits.train_BD.min()) == -1 and float(digits.train_BD.max()) == 1
    # The first image is held out, the second is not.
    assert digits.held_out_BD[0, :6].tolist() == [-1.0, -1.0, -0.375, 0.625, 0.125, -0.875]


def test_a_short_training_makes_samples_like_digits(digits: Digits) -> None:
    model = quick_digits()
    noise = 80 * torch.from_numpy(generator(0, "test", "digits").standard_normal((450, 64)))
    made = sample(model, noise, make_schedule("edm", 18).sigmas)
    only_noise = torch.from_numpy(generator(1, "test", "digits").standard_normal((450, 64)))
    assert frechet_distance(made, digits.held_out_BD) < 0.1 * frechet_distance(only_noise, digits.held_out_BD)


def test_training_draws_from_its_seed_alone(digits: Digits) -> None:
    first, same, other = (train_digits_denoiser(digits.train_BD, seed=s, steps=2, width=8) for s in (1, 1, 2))
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].dtype == torch.float64


def test_the_network_is_told_the_level() -> None:
    network = PixelNetwork(num_pixels=4, width=8)
    x = torch.ones(1, 4)
    with torch.no_grad():
        assert not torch.allclose(network(x, torch.tensor([0.1])), network(x, torch.tensor([0.9])))


def test_frechet_distances_by_hand() -> None:
    line = torch.tensor([[-1.0], [1.0]])  # variance 2 with the unbiased estimator
    assert frechet_distance(line, line) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(line, line + 3) == pytest.approx(9)
    # Standard deviations a and b: (a - b)^2
    assert frechet_distance(line, 2 * line) == pytest.approx((2**0.5 - 8**0.5) ** 2)


def test_frechet_distance_of_singular_and_turned_clouds() -> None:
    rng = generator(0, "test", "frechet")
    flat = torch.from_numpy(rng.standard_normal((200, 3)) * np.array([1.0, 2.0, 0.0]))
    turned = flat[:, [1, 0, 2]]
    first, second = flat[:, 0].std(), flat[:, 1].std()
    cross = np.cov(flat.numpy(), rowvar=False)[:2, :2]
    assert frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)
    # Were the axes uncorrelated, the distance would be 2 (s1 - s2)^2.
    assert abs(cross[0, 1]) < 0.3
    assert frechet_distance(flat, turned) == pytest.approx(float(2 * (first - second) ** 2), rel=0.1)


def test_sets_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(DiffusionError, match="cannot be compared"):
        frechet_distance(torch.zeros(5, 2), torch.zeros(5, 3))
    with pytest.raises(DiffusionError, match="cannot be compared"):
        frechet_distance(torch.zeros(1, 2), torch.zeros(5, 2))


def test_a_training_that_diverges_is_named() -> None:
    with pytest.raises(DiffusionError, match="diverged"):
        train_digits_denoiser(torch.full((4, 64), float("nan")), steps=1, width=4)


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"askesis\[dev\]"):
        load_digits()
