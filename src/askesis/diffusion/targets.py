"""What a schedule is learned for, by recipe: an analytic mixture, or the small model of digits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from askesis.diffusion.digits import load_digits, train_digits_denoiser
from askesis.diffusion.fields import Denoiser
from askesis.diffusion.learning import LearnerSection
from askesis.diffusion.mixtures import circle_mixture, random_mixture, single_gaussian
from askesis.recipe import Section
from askesis.recipe.load import resolve
from askesis.streams import generator

__all__ = ["ScheduleRecipe", "Target", "TargetSection", "build_target", "load_schedule_recipe", "start_noise"]


class TargetSection(Section):
    """Whose flow is integrated."""

    kind: Literal["gaussian", "circle", "mixture", "digits"] = "mixture"
    """``gaussian``: one, of standard deviation ``std``; ``circle``: equal components on a circle, 2 dimensions;
    ``mixture``: in random directions; ``digits``: a denoiser trained on 8 x 8 handwritten digits (scikit-learn)."""
    dim: int = Field(default=16, ge=1, le=4096)
    """Dimensions of ``gaussian`` and ``mixture``."""
    components: int = Field(default=8, ge=1, le=1024)
    radius: float = Field(default=4.0, ge=0)
    """Distance of the components from 0."""
    std: float = Field(default=0.3, gt=0)
    """Of each component."""
    training_steps: int = Field(default=2000, ge=1)
    """Of the denoiser of ``digits``."""
    seed: int = Field(default=0, ge=0)
    """Directions of ``mixture``; weights and batches of ``digits``."""


class ScheduleRecipe(Section):
    """Everything that decides a learned schedule."""

    target: TargetSection = TargetSection()
    learner: LearnerSection = LearnerSection()


class Target(NamedTuple):
    """A denoiser and the shape of one of its samples."""

    denoiser: Denoiser
    shape: tuple[int, ...]


def load_schedule_recipe(path: Path | None, overrides: Sequence[str] = ()) -> ScheduleRecipe:
    """Merge defaults, a TOML file and ``section.key=value`` overrides. RecipeError when something in them is wrong."""
    return resolve(ScheduleRecipe, path, overrides).recipe


def build_target(section: TargetSection) -> Target:
    """Make the target; ``digits`` is trained, which takes half a minute. MissingExtra without scikit-learn."""
    match section.kind:
        case "gaussian":
            return Target(single_gaussian(section.dim, std=section.std), (section.dim,))
        case "circle":
            mixture = circle_mixture(num_components=section.components, radius=section.radius, std=section.std)
            return Target(mixture, (2,))
        case "mixture":
            drawn = random_mixture(
                section.dim,
                generator(section.seed, "mixture"),
                num_components=section.components,
                radius=section.radius,
                std=section.std,
            )
            return Target(drawn, (section.dim,))
        case "digits":
            images_BD = load_digits().train_BD
            model = train_digits_denoiser(images_BD, seed=section.seed, steps=section.training_steps)
            return Target(model, tuple(images_BD.shape[1:]))


def start_noise(num: int, shape: tuple[int, ...], sigma_max: float, *, seed: int, name: str) -> Tensor:
    """Noise to start from, ``[num, *shape]``, of the stream ``name``."""
    return sigma_max * torch.from_numpy(generator(seed, "start", name).standard_normal((num, *shape)))
