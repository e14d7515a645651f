"""ART: where a diffusion sampler should step, as a control problem that is learned (arXiv 2601.18681, 2607.02137)."""

from __future__ import annotations

from askesis.diffusion.fields import Denoiser, EdmDenoiser, Flow, flow, velocity
from askesis.diffusion.learning import Learned, LearnerSection, learn_schedule
from askesis.diffusion.mixtures import GaussianMixture, circle_mixture, random_mixture, single_gaussian
from askesis.diffusion.oracle import (
    Difficulty,
    gaussian_step_costs,
    local_error_costs,
    measure_difficulty,
    oracle_schedule,
    path_schedule,
    surrogate_cost,
)
from askesis.diffusion.sampling import Solver, reference, root_mean_square_error, sample
from askesis.diffusion.schedules import HAND_MADE, DiffusionError, Schedule, arctan_schedule, make_schedule
from askesis.diffusion.stock import apply_schedule, stock_denoiser

__all__ = [
    "HAND_MADE",
    "Denoiser",
    "Difficulty",
    "DiffusionError",
    "EdmDenoiser",
    "Flow",
    "GaussianMixture",
    "Learned",
    "LearnerSection",
    "Schedule",
    "Solver",
    "apply_schedule",
    "arctan_schedule",
    "circle_mixture",
    "flow",
    "gaussian_step_costs",
    "learn_schedule",
    "local_error_costs",
    "make_schedule",
    "measure_difficulty",
    "oracle_schedule",
    "path_schedule",
    "random_mixture",
    "reference",
    "root_mean_square_error",
    "sample",
    "single_gaussian",
    "stock_denoiser",
    "surrogate_cost",
    "velocity",
]
