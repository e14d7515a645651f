"""askesis schedule"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from askesis.cli import output
from askesis.diffusion.comparing import ORACLE, Comparison, compare, draw_comparison
from askesis.diffusion.denormals import denormals_as_zero
from askesis.diffusion.learning import Progress, learn_schedule
from askesis.diffusion.sampling import Solver
from askesis.diffusion.schedules import HAND_MADE, Schedule, make_schedule
from askesis.diffusion.targets import ScheduleRecipe, build_target, load_schedule_recipe, start_noise
from askesis.errors import RecipeError

__all__ = ["compare_schedules", "learn", "show"]

_SHOWN_EVERY_S = 2.0


@denormals_as_zero()
def learn(recipe_path: Path | None, overrides: Sequence[str], *, out: Path, json_output: bool) -> None:
    """Learn a schedule and write it."""
    recipe = load_schedule_recipe(recipe_path, overrides)
    _quicken()
    target = build_target(recipe.target)
    learned = learn_schedule(
        target.denoiser, recipe.learner, shape=target.shape, notify=_Reporter(recipe.learner.iterations)
    )
    made = {**learned.schedule.provenance, "target": recipe.target.model_dump()}
    schedule = Schedule(name=learned.schedule.name, sigmas=learned.schedule.sigmas, provenance=made)
    schedule.save(out)
    facts = {
        "first_cost": learned.history[0].cost,
        "last_cost": learned.history[-1].cost,
        "spread": learned.spread.mean,
        "cpu_s": round(learned.cpu_s, 1),
    }
    if json_output:
        output.emit({"schedule": str(out), "sigmas": list(schedule.sigmas), **facts})
        return
    _list(schedule)
    print(f"cost {facts['first_cost']:.4g} -> {facts['last_cost']:.4g} in {facts['cpu_s']} processor seconds")
    print(f"schedule: {out}")


def show(name: str, *, steps: int | None, sigma_max: float, sigma_min: float, json_output: bool) -> None:
    """Print the noise levels of a file or a hand-made schedule."""
    schedule = _find(name, steps, sigma_max, sigma_min)
    if json_output:
        output.emit({"name": schedule.name, "sigmas": list(schedule.sigmas), "provenance": dict(schedule.provenance)})
    else:
        _list(schedule)


@denormals_as_zero()
def compare_schedules(
    files: Sequence[Path],
    *,
    recipe_path: Path | None,
    overrides: Sequence[str],
    steps: str,
    solver: str,
    picture: Path | None,
    json_output: bool,
) -> None:
    """Measure schedules against the hand-made ones and the closed form on the recipe's target."""
    recipe = load_schedule_recipe(recipe_path, overrides)
    counts = _steps(steps)
    chosen = _solver(solver)
    if picture is not None and picture.suffix not in (".svg", ".png"):
        raise RecipeError("the picture's kind is not known", got=str(picture), expected="a name with .svg or .png")
    learned = _load(files)
    _check_ranges(learned, recipe)
    _quicken()
    target = build_target(recipe.target)
    noise = start_noise(512, target.shape, recipe.learner.sigma_max, seed=recipe.learner.seed, name="compare")
    compared = compare(
        target.denoiser,
        noise,
        learned,
        counts,
        solver=chosen,
        sigma_max=recipe.learner.sigma_max,
        sigma_min=recipe.learner.sigma_min,
    )
    if picture is not None:
        draw_comparison(compared, picture)
    _report(compared, picture, json_output=json_output)


def _report(compared: Comparison, picture: Path | None, *, json_output: bool) -> None:
    if json_output:
        shown: dict[str, Any] = {"evaluations": list(compared.evaluations), "errors": dict(compared.errors)}
        output.emit({**shown, "picture": None if picture is None else str(picture)})
        return
    columns = ("schedule", *(f"{count} evaluations" for count in compared.evaluations))
    rows = [(name, *(f"{value:.4g}" for value in values)) for name, values in compared.errors.items()]
    output.table(columns, rows, title=f"Distance from the exact samples (root mean square), {compared.solver.value}")
    if picture is not None:
        print(f"picture: {picture}")


def _list(schedule: Schedule) -> None:
    levels = schedule.sigmas
    rows = [(place, f"{level:.6g}") for place, level in enumerate(levels)]
    output.table(("step", "noise level"), rows, title=f"{schedule.name}, {schedule.num_steps} steps")


def _find(name: str, steps: int | None, sigma_max: float, sigma_min: float) -> Schedule:
    if name in HAND_MADE:
        return make_schedule(name, 18 if steps is None else steps, sigma_max=sigma_max, sigma_min=sigma_min)
    path = Path(name)
    if not path.exists():
        raise RecipeError(
            f"there is neither a file nor a schedule called {name!r}",
            got=name,
            expected=f"a file of `askesis schedule learn`, or {', '.join(HAND_MADE)}",
        )
    schedule = Schedule.load(path)
    return schedule if steps is None else schedule.resampled(steps)


def _steps(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 2 for part in parts):
        raise RecipeError(
            "these are no numbers of steps", where="--steps", got=text, expected="2 or more, as in 5,7,10"
        )
    return tuple(int(part) for part in parts)


def _solver(text: str) -> Solver:
    if text not in list(Solver):
        raise RecipeError("there is no such solver", where="--solver", got=text, expected=", ".join(Solver))
    return Solver(text)


def _load(files: Sequence[Path]) -> dict[str, Schedule]:
    learned: dict[str, Schedule] = {}
    for path in files:
        if path.stem in (*HAND_MADE, ORACLE, *learned):
            raise RecipeError(
                "two schedules of the comparison would have one name",
                where=str(path),
                got=path.stem,
                next_step="give the file another name",
            )
        learned[path.stem] = Schedule.load(path)
    return learned


def _check_ranges(learned: dict[str, Schedule], recipe: ScheduleRecipe) -> None:
    for name, schedule in learned.items():
        if abs(schedule.sigmas[0] - recipe.learner.sigma_max) > 1e-6 * recipe.learner.sigma_max:
            raise RecipeError(
                "a schedule begins at another noise than the comparison",
                where=name,
                got=schedule.sigmas[0],
                expected=recipe.learner.sigma_max,
                next_step=f"learner.sigma_max={schedule.sigmas[0]:g}",
            )


def _quicken() -> None:
    # Batches are small: a second thread costs more than it brings.
    torch.set_num_threads(1)


class _Reporter:
    """A line on standard error, every two seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._last = 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        is_end = progress.iteration == self._total - 1
        if now - self._last >= _SHOWN_EVERY_S or is_end:
            self._last = now
            print(f"iteration {progress.iteration + 1}/{self._total}: cost {progress.cost:.4g}", file=sys.stderr)
