"""A small real model: a denoiser trained in under a minute on the handwritten digits of scikit-learn (8 x 8 pixels).

Legend of suffixes: B samples, D = 64 pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from askesis.diffusion.fields import EdmDenoiser
from askesis.diffusion.schedules import DiffusionError
from askesis.errors import MissingExtra
from askesis.streams import generator

__all__ = ["Digits", "PixelNetwork", "frechet_distance", "load_digits", "train_digits_denoiser"]

_HELD_OUT = 4
"""Every fourth image is not trained on."""


class Digits(NamedTuple):
    """Images in -1..1, float32 ``[B, 64]``: three quarters to train on, the rest held out."""

    train_BD: Tensor
    held_out_BD: Tensor


def load_digits() -> Digits:
    """The 1,797 images that scikit-learn ships. MissingExtra without scikit-learn."""
    try:
        from sklearn import datasets
    except ImportError:
        raise MissingExtra("scikit-learn", "dev", "the model of handwritten digits") from None
    images_BD = torch.from_numpy(datasets.load_digits().data).float() / 8 - 1
    held_out = torch.arange(len(images_BD)) % _HELD_OUT == 0
    return Digits(images_BD[~held_out], images_BD[held_out])


class PixelNetwork(nn.Module):
    """Two residual blocks over pixels, each told the noise level. ``(pixels [B, 64], level [B]) -> [B, 64]``."""

    def __init__(self, *, num_pixels: int = 64, width: int = 192) -> None:
        super().__init__()
        self.enter = nn.Linear(num_pixels, width)
        self.level = nn.Linear(17, width)
        self.blocks = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(width, width)) for _ in range(3))
        self.leave = nn.Linear(width, num_pixels)

    def forward(self, x_BD: Tensor, level_B: Tensor) -> Tensor:
        """The raw output that the preconditioning scales."""
        octave = torch.exp2(torch.arange(8, dtype=x_BD.dtype) - 2)
        phase = level_B[:, None] * octave
        told = self.level(torch.cat([level_B[:, None], phase.sin(), phase.cos()], 1))
        hidden = self.enter(x_BD) + told
        for block in self.blocks:
            hidden = hidden + block(hidden + told)
        out: Tensor = self.leave(hidden)
        return out


def train_digits_denoiser(
    images_BD: Tensor, *, seed: int = 0, steps: int = 2000, batch: int = 256, width: int = 192
) -> EdmDenoiser:
    """Train by EDM's loss and noise distribution (Karras et al. 2022, table 1); returned in float64.

    Raises DiffusionError when the loss is not finite.
    """
    rng = generator(seed, "digits", "training")
    network = PixelNetwork(num_pixels=images_BD.shape[1], width=width)
    _initialise(network, generator(seed, "digits", "weights"))
    model = EdmDenoiser(network, sigma_data=float(images_BD.std()))
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        clean_BD = images_BD[torch.from_numpy(rng.integers(len(images_BD), size=batch))]
        sigma_B = torch.from_numpy(np.exp(rng.normal(-1.2, 1.2, batch))).float()
        noise_BD = torch.from_numpy(rng.standard_normal(clean_BD.shape, dtype=np.float32))
        weight_B = (sigma_B**2 + model.sigma_data**2) / (sigma_B * model.sigma_data) ** 2
        answer_BD = model(clean_BD + sigma_B[:, None] * noise_BD, sigma_B)
        loss = (weight_B * (answer_BD - clean_BD).square().mean(1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    if not math.isfinite(float(loss.detach())):
        raise DiffusionError("the denoiser's training diverged", got=f"loss {float(loss.detach())}")
    return model.double().eval().requires_grad_(False)


def frechet_distance(samples_BD: Tensor, real_BD: Tensor) -> float:
    """|m1 - m2|^2 + trace(C1 + C2 - 2 sqrt(C1 C2)) between Gaussians fitted to two sets of pixels.

    The formula of FID (Heusel et al. 2017, arXiv 1706.08500) on raw pixels instead of a network's features, so in
    squared units of the data. Between two finite sets of the same law it is above 0: compare only equal sizes.

    Raises:
        DiffusionError: fewer samples than two, or different numbers of pixels.
    """
    if samples_BD.shape[1:] != real_BD.shape[1:] or min(len(samples_BD), len(real_BD)) < 2:
        raise DiffusionError(
            "the two sets of samples cannot be compared", got=f"{tuple(samples_BD.shape)}, {tuple(real_BD.shape)}"
        )
    (mean_a, cov_a), (mean_b, cov_b) = (
        (rows.mean(0), np.atleast_2d(np.cov(rows, rowvar=False)))
        for rows in (samples_BD.double().numpy(), real_BD.double().numpy())
    )
    # The root of C1 C2 has the trace of the root of a symmetric matrix, which exists for singular ones, too.
    values, vectors = np.linalg.eigh(cov_a)
    half = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(half @ cov_b @ half).clip(0)
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(cross).sum())


def _initialise(network: nn.Module, rng: np.random.Generator) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            with torch.no_grad():
                for parameter in module.parameters():
                    drawn = torch.from_numpy(rng.uniform(-bound, bound, tuple(parameter.shape)))
                    parameter.copy_(drawn)
