"""Schedules side by side: the error of each at the same number of evaluations, and a picture of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from askesis.diffusion.fields import Denoiser
from askesis.diffusion.oracle import measure_difficulty, oracle_schedule
from askesis.diffusion.sampling import Solver, reference, root_mean_square_error, sample
from askesis.diffusion.schedules import HAND_MADE, Schedule, make_schedule

__all__ = ["ORACLE", "Comparison", "compare", "draw_comparison"]

ORACLE = "art_oracle"
"""The closed form's name in a comparison."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What each schedule reached.

    Args:
        steps: K of each column.
        solver: Euler or Heun.
        errors: name to root mean square distance from the exact samples, one for each K.
        schedules: name to the schedule of the largest K.
        samples: name to samples of the smallest K; ``exact`` are the exact ones.
    """

    steps: tuple[int, ...]
    solver: Solver
    errors: Mapping[str, tuple[float, ...]]
    schedules: Mapping[str, Schedule]
    samples: Mapping[str, Tensor]

    @property
    def evaluations(self) -> tuple[int, ...]:
        """Calls of the denoiser, for each K."""
        return tuple(self.solver.evaluations(num) for num in self.steps)


def compare(
    denoiser: Denoiser,
    noise_BR: Tensor,
    learned: Mapping[str, Schedule],
    steps: Sequence[int],
    *,
    solver: Solver = Solver.EULER,
    sigma_max: float,
    sigma_min: float,
) -> Comparison:
    """Measure the hand-made schedules, the closed-form oracle, and ``learned`` ones resampled to each number of steps.

    The oracle's difficulty is measured on the first half of ``noise_BR``, the errors on the second.
    """
    half = len(noise_BR) // 2
    exact_BR = reference(denoiser, noise_BR[half:], sigma_max=sigma_max, sigma_min=sigma_min)
    difficulty = measure_difficulty(denoiser, noise_BR[:half], sigma_max=sigma_max, sigma_min=sigma_min)
    candidates = {
        num: {
            **{n: make_schedule(n, num, sigma_max=sigma_max, sigma_min=sigma_min) for n in HAND_MADE},
            ORACLE: oracle_schedule(difficulty, num),
            **{n: schedule.resampled(num) for n, schedule in learned.items()},
        }
        for num in steps
    }
    reached: dict[str, list[float]] = {}
    samples = {"exact": exact_BR}
    for num in steps:
        for name, schedule in candidates[num].items():
            x_BR = sample(denoiser, noise_BR[half:], schedule.sigmas, solver)
            reached.setdefault(name, []).append(root_mean_square_error(x_BR, exact_BR))
            if num == min(steps):
                samples[name] = x_BR
    return Comparison(
        steps=tuple(steps),
        solver=solver,
        errors={name: tuple(values) for name, values in reached.items()},
        schedules=candidates[max(steps)],
        samples=samples,
    )


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Write a picture (``.svg`` or ``.png``): the schedules, their errors, and samples at the fewest steps.

    Samples of square images are shown as images, others by their first two coordinates.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = list(comparison.samples)
    with matplotlib.rc_context({"svg.hashsalt": "askesis", "font.size": 8}):
        figure = Figure(figsize=(1.5 * len(names), 5), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
        top, bottom = parts
        left, right = top.subplots(1, 2)
        for place, name in enumerate(comparison.errors):
            width = 1.0 if name in HAND_MADE else 2.0
            levels = comparison.schedules[name].sigmas[:-1]
            left.plot(range(len(levels)), levels, ".-", color=f"C{place}", label=name, linewidth=width)
            right.plot(comparison.evaluations, comparison.errors[name], ".-", color=f"C{place}", linewidth=width)
        left.set(yscale="log", xlabel="step", title="noise level")
        right.set(
            yscale="log",
            xscale="log",
            xlabel="evaluations",
            title=f"distance from exact samples, {comparison.solver.value}",
        )
        right.set_xticks(comparison.evaluations, [str(n) for n in comparison.evaluations], minor=False)
        right.minorticks_off()
        left.legend(fontsize=7)
        _draw_samples(bottom.subplots(1, len(names)), comparison)
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata, dpi=120)


def _draw_samples(row: Any, comparison: Comparison) -> None:
    fewest = comparison.solver.evaluations(min(comparison.steps))
    exact = comparison.samples["exact"].flatten(1)
    limit = 1.1 * float(exact[:, :2].abs().max())
    side = round(exact.shape[1] ** 0.5)
    is_image = side >= 8 and side * side == exact.shape[1] and float(exact.abs().mean()) < 2
    for axes, (name, x_BR) in zip(row, comparison.samples.items(), strict=True):
        rows = x_BR.flatten(1).numpy()
        if is_image:
            tiles = rows[:9].reshape(3, 3, side, side).transpose(0, 2, 1, 3).reshape(3 * side, 3 * side)
            axes.imshow(tiles, cmap="gray", vmin=-1, vmax=1)
        else:
            shown = rows[: min(len(rows), 400), : min(2, rows.shape[1])]
            second = shown[:, 1] if shown.shape[1] > 1 else np.zeros(len(shown))
            axes.plot(shown[:, 0], second, ".", markersize=2)
            axes.set(xlim=(-limit, limit), ylim=(-limit, limit))
        axes.set(title=name if name == "exact" else f"{name}, {fewest}", xticks=[], yticks=[], aspect="equal")
