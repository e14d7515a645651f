"""The flow that turns noise into data, and how sharply it bends.

A *denoiser* gives the expected clean sample D(x; sigma) = E[x0 | x]. Along falling noise, with physical time
psi = sigma_max - sigma, the probability flow is dx/dpsi = F = (D - x) / sigma (Karras et al. 2022, eq. 4). Its second
derivative along itself, q = (dF/dx) F + dF/dpsi, is what one Euler step misses: the error of a step h is h^2 q / 2.

Shapes: B samples of any shape; legend of suffixes: B batch, R the rest of a sample's dimensions.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from askesis.diffusion.schedules import DiffusionError

__all__ = ["Denoiser", "EdmDenoiser", "Flow", "flow", "spread", "velocity"]


class Denoiser(Protocol):
    """D(x; sigma): samples ``[B, ...]`` and their noise levels ``[B]`` to expected clean samples ``[B, ...]``.

    Differentiable by ``torch.func.jvp`` where a schedule is learned from it, or with a method
    ``derivative(x_BR, sigma_B, toward_BR)`` that gives the derivative along (``toward_BR``, -1).
    """

    def __call__(self, x_BR: Tensor, sigma_B: Tensor, /) -> Tensor:
        """The expected clean samples."""
        ...


@runtime_checkable
class _Differentiated(Protocol):
    def derivative(self, x_BR: Tensor, sigma_B: Tensor, toward_BR: Tensor, /) -> Tensor: ...


class Flow(NamedTuple):
    """dx/dpsi and d^2x/dpsi^2 along the flow, each ``[B, ...]``."""

    velocity: Tensor
    curvature: Tensor


class EdmDenoiser(nn.Module):
    """A network in EDM's preconditioning: D = c_skip x + c_out net(c_in x, c_noise) (Karras et al. 2022, table 1).

    Args:
        network: ``(scaled samples [B, ...], log(sigma) / 4 [B]) -> [B, ...]``.
        sigma_data: standard deviation of the data.
    """

    def __init__(self, network: nn.Module, *, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data

    def forward(self, x_BR: Tensor, sigma_B: Tensor) -> Tensor:
        """The expected clean samples."""
        sigma = spread(sigma_B, x_BR)
        total = sigma**2 + self.sigma_data**2
        raw: Tensor = self.network(x_BR / total.sqrt(), sigma_B.log() / 4)
        return x_BR * (self.sigma_data**2 / total) + raw * (sigma * self.sigma_data / total.sqrt())


def velocity(denoiser: Denoiser, x_BR: Tensor, sigma_B: Tensor) -> Tensor:
    """F = (D - x) / sigma, in units of data per unit of noise.

    Raises:
        DiffusionError: the denoiser's answer has another shape, or is not finite.
    """
    clean = denoiser(x_BR, sigma_B)
    if clean.shape != x_BR.shape:
        raise DiffusionError(
            "the denoiser changes the shape of samples", got=tuple(clean.shape), expected=tuple(x_BR.shape)
        )
    return (clean - x_BR) / spread(sigma_B, x_BR)


def flow(denoiser: Denoiser, x_BR: Tensor, sigma_B: Tensor) -> Flow:
    """The velocity F and the curvature q of the flow.

    q = (dD/dx F - dD/dsigma) / sigma: the derivative of (D - x) / sigma along (F, -1), in which the terms of the
    quotient cancel; sigma falls by one when psi rises by one, hence the minus. One forward-mode derivative, unless the
    denoiser brings its own. That q is the material derivative follows from a Taylor expansion (inferred).

    Raises:
        DiffusionError: the denoiser's answer has another shape, or the flow is not finite.
    """
    field_BR = velocity(denoiser, x_BR, sigma_B)
    if isinstance(denoiser, _Differentiated):
        rate_BR = denoiser.derivative(x_BR, sigma_B, field_BR)
    else:
        _load_forward_mode()
        rate_BR = torch.func.jvp(denoiser, (x_BR, sigma_B), (field_BR, -torch.ones_like(sigma_B)))[1]
    curvature_BR = rate_BR / spread(sigma_B, x_BR)
    if not bool(curvature_BR.isfinite().all()):
        broken = int((~curvature_BR.isfinite()).flatten(1).any(1).sum())
        raise DiffusionError(
            "the flow is not finite",
            got=f"{broken} of {len(x_BR)} samples, sigma from {float(sigma_B.min()):g} to {float(sigma_B.max()):g}",
            expected="a denoiser that gives finite values and derivatives",
            next_step="look at its answer at these noise levels; float64 helps near sigma = 0",
        )
    return Flow(field_BR, curvature_BR)


def spread(sigma_B: Tensor, x_BR: Tensor) -> Tensor:
    """``sigma_B`` with as many dimensions as ``x_BR``."""
    return sigma_B.reshape(-1, *[1] * (x_BR.dim() - 1))


@cache
def _load_forward_mode() -> None:
    # The first forward-mode derivative of a process makes PyTorch 2.13 warn of its own use of torch.jit.script.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.ones(1),))
