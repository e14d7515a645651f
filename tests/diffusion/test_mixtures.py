"""The exact denoiser of a mixture."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.diffusion.mixtures import GaussianMixture, circle_mixture, random_mixture, single_gaussian
from askesis.diffusion.schedules import DiffusionError
from askesis.streams import generator

# The first forward-mode derivative of a process makes PyTorch warn of its own code.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script.:DeprecationWarning")


def pair(weights: list[float], stds: list[float]) -> GaussianMixture:
    return GaussianMixture(
        means_MD=torch.tensor([[1.0], [-1.0]], dtype=torch.float64),
        weight_M=torch.tensor(weights, dtype=torch.float64),
        std_M=torch.tensor(stds, dtype=torch.float64),
    )


def test_one_dimension_by_numerical_integration() -> None:
    mixture = pair([0.3, 0.7], [0.2, 0.5])
    clean = torch.linspace(-6, 6, 200_001, dtype=torch.float64)

    def density(x: torch.Tensor, mean: float, std: float) -> torch.Tensor:
        return torch.exp(-0.5 * ((x - mean) / std) ** 2) / std

    prior = 0.3 * density(clean, 1, 0.2) + 0.7 * density(clean, -1, 0.5)
    for x, sigma in ((0.4, 0.5), (-2.0, 1.5), (3.0, 0.1)):
        posterior = prior * density(torch.tensor(x, dtype=torch.float64), 0, 1) * 0 + prior * density(
            clean - x, 0, sigma
        )
        expected = float((posterior * clean).sum() / posterior.sum())
        found = mixture(torch.tensor([[x]], dtype=torch.float64), torch.tensor([sigma], dtype=torch.float64))
        assert float(found) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), dim=st.integers(1, 12), sigma=st.floats(0.01, 80))
def test_the_derivative_is_the_forward_mode_derivative(seed: int, dim: int, sigma: float) -> None:
    rng = generator(seed, "test", "mixture")
    mixture = random_mixture(dim, rng, num_components=4)
    x = mixture.draw(6, rng) + sigma * torch.from_numpy(rng.standard_normal((6, dim)))
    toward = torch.from_numpy(rng.standard_normal((6, dim)))
    level = torch.full((6,), sigma, dtype=torch.float64)
    _, expected = torch.func.jvp(mixture, (x, level), (toward, -torch.ones_like(level)))
    assert torch.allclose(mixture.derivative(x, level, toward), expected, rtol=1e-6, atol=1e-8)


def test_the_order_of_components_does_not_matter() -> None:
    x, sigma = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    first = pair([0.3, 0.7], [0.2, 0.5])
    flipped = GaussianMixture(means_MD=-first.means_MD, weight_M=first.weight_M.flip(0), std_M=first.std_M.flip(0))
    assert float(first(x, sigma)) == pytest.approx(float(flipped(x, sigma)), abs=1e-12)


def test_limits_of_no_noise_and_of_much() -> None:
    mixture = circle_mixture()
    x = torch.tensor([[4.1, 0.2]], dtype=torch.float64)
    little, much = torch.tensor([1e-6], dtype=torch.float64), torch.tensor([1e6], dtype=torch.float64)
    assert torch.allclose(mixture(x, little), x, atol=1e-6)
    assert torch.allclose(mixture(x, much), torch.zeros(1, 2, dtype=torch.float64), atol=1e-4)


def test_drawn_samples_have_the_mixture_s_moments() -> None:
    mixture = random_mixture(3, generator(1, "test"))
    drawn = mixture.draw(40_000, generator(2, "test"))
    assert torch.allclose(drawn.mean(0), mixture.means_MD.mean(0), atol=0.06)
    second = (mixture.means_MD**2).mean(0) + 0.09
    assert torch.allclose((drawn**2).mean(0), second, rtol=0.03)
    assert mixture.means_MD.norm(dim=1).tolist() == pytest.approx([4.0] * 8)


def test_wrong_mixtures_and_samples_are_refused() -> None:
    with pytest.raises(DiffusionError, match="no mixture"):
        pair([0.5, 0.6], [1.0, 1.0])
    with pytest.raises(DiffusionError, match="no mixture"):
        pair([0.5, 0.5], [1.0, 0.0])
    with pytest.raises(DiffusionError, match="do not fit"):
        pair([1.0], [1.0, 1.0])
    with pytest.raises(DiffusionError, match=r"expected:\s+\[B, 2\]"):
        single_gaussian(2)(torch.zeros(4, 3, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
