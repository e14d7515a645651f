"""The flow's velocity and curvature against the closed form of a Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from askesis.diffusion.fields import EdmDenoiser, flow, velocity
from askesis.diffusion.mixtures import single_gaussian
from askesis.diffusion.schedules import DiffusionError
from askesis.streams import generator

S2 = 0.25


def states(num: int = 32, dim: int = 3) -> tuple[Tensor, Tensor]:
    rng = generator(0, "test", "states")
    sigma = torch.from_numpy(rng.uniform(0.01, 80, num))
    return torch.from_numpy(rng.standard_normal((num, dim))) * sigma[:, None], sigma


def plain(x: Tensor, sigma: Tensor) -> Tensor:
    """The Gaussian's denoiser as a plain function: its curvature comes by forward-mode derivative."""
    return S2 * x / (S2 + sigma[:, None] ** 2)


@pytest.mark.parametrize("denoiser", [plain, single_gaussian(3)], ids=["forward mode", "by hand"])
def test_velocity_and_curvature_of_a_gaussian(denoiser: object) -> None:
    x, sigma = states()
    found = flow(denoiser, x, sigma)  # type: ignore[arg-type]
    total = S2 + sigma[:, None] ** 2
    assert found.velocity == pytest.approx(-sigma[:, None] * x / total, abs=1e-9)
    assert found.curvature == pytest.approx(S2 * x / total**2, abs=1e-6)


def test_curvature_is_the_second_derivative_along_the_exact_flow() -> None:
    x, sigma = states()
    step = 1e-3 * sigma

    def exact(to: Tensor) -> Tensor:
        return x * ((S2 + to**2) / (S2 + sigma**2)).sqrt()[:, None]

    second = (exact(sigma - step) - 2 * x + exact(sigma + step)) / step[:, None] ** 2
    assert torch.allclose(flow(plain, x, sigma).curvature, second, rtol=1e-3, atol=1e-9)


def test_preconditioning_by_hand() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            return x + level[:, None]

    x, sigma = torch.tensor([[3.0]]), torch.tensor([2.0])
    # s_data 1.5: c_in 1/2.5, c_skip 2.25/6.25, c_out 2 * 1.5 / 2.5, c_noise ln(2) / 4
    raw = 3.0 / 2.5 + torch.tensor(2.0).log() / 4
    assert EdmDenoiser(Both(), sigma_data=1.5)(x, sigma).item() == pytest.approx(float(0.36 * 3 + 1.2 * raw))


def test_samples_of_any_shape() -> None:
    x = torch.ones(2, 3, 4, 5, dtype=torch.float64)
    sigma = torch.tensor([1.0, 2.0], dtype=torch.float64)
    found = flow(lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2), x, sigma)
    assert found.velocity.shape == found.curvature.shape == x.shape
    assert found.velocity[:, 0, 0, 0].tolist() == pytest.approx([-0.5, -0.4])


def test_a_denoiser_that_changes_the_shape_is_named() -> None:
    x, sigma = states()
    with pytest.raises(DiffusionError, match="changes the shape"):
        velocity(lambda x, sigma: x[:, :1], x, sigma)


def test_a_flow_that_is_not_finite_is_named() -> None:
    x, sigma = states()
    with pytest.raises(DiffusionError, match="1 of 32 samples"):
        flow(lambda x, sigma: torch.where(torch.arange(32)[:, None] == 7, x / 0.0, x), x, sigma)
