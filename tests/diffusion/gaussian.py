"""Closed forms for one Gaussian N(0, s^2 I), by hand: what the samplers and schedules are checked against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from askesis.diffusion.oracle import Difficulty

S = 0.5
TOP = 80.0


def slope(a: float) -> float:
    """dx/dsigma = x slope(sigma)."""
    return a / (S * S + a * a)


def error(sigmas: Sequence[float], *, heun: bool = False) -> float:
    """The exact 2-Wasserstein distance per dimension between samples of the schedule and the Gaussian."""
    scale = math.sqrt(S * S + TOP * TOP)
    for a, b in pairwise(sigmas):
        factor = 1 - (a - b) * slope(a)
        if heun and b > 0:
            factor = 1 - (a - b) * (slope(a) + factor * slope(b)) / 2
        scale *= factor
    return abs(scale - S)


def difficulty(num: int = 20_000) -> Difficulty:
    """|Q| = s^2 / (s^2 + sigma^2)^(3/2), up to a constant."""
    sigma = np.concatenate([[0.0], np.geomspace(1e-4, TOP, num)])
    return Difficulty(sigma_N=sigma, weight_N=S * S / (S * S + sigma**2) ** 1.5)
