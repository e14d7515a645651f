"""ART: learned noise levels lower the discretisation error of a diffusion sampler at equal evaluations.

For every seed and setting a law of data is drawn (mixtures, whose score is known exactly) or a denoiser is trained
(digits). One schedule of 20 steps is learned there and resampled to 5, 7, 10 and 18 evaluations. The setting *unseen
mixtures* takes the schedule that was learned in 16 dimensions to laws that it never saw. The closed form of the same
control problem, which needs no learning, is shown as a control: it is what could explain the effect.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from askesis.claims.experiment import Arm, CurveLabel, Experiment, Metric, Part, Role, Scale, Setting, Trial
from askesis.recipe.schema import Option
from askesis.streams import generator, seed_of

if TYPE_CHECKING:  # what loads torch is imported when a trial is made: the list of claims needs none of it
    from torch import Tensor

    from askesis.diffusion import Denoiser, Difficulty, Learned, Schedule, Solver

__all__ = ["STUDY", "run"]

EULER = (5, 7, 10, 18)
HEUN = (5, 10)
_UNSEEN = "unseen mixtures"
_DIGITS = "digits"
_MIXTURES = {"2 dimensions": 2, "16 dimensions": 16, "64 dimensions": 64}
_SHAPES = ((4, 5, 2.0, 0.5), (16, 8, 4.0, 0.3), (32, 12, 6.0, 0.2))
"""Of the unseen laws: dimensions, components, radius, standard deviation."""
_SIGMA_MAX, _SIGMA_MIN = 80.0, 0.002
_CLOCK = 20
"""Steps that the schedule is learned over."""
_PER_ITEM = 10
"""Samples whose mean distance is one item of the interval."""
_RESAMPLED = {"edm_20": "edm", "dpm_20": "dpm"}


class Law(NamedTuple):
    """Where schedules are measured: a denoiser, noise to start from, where it exactly leads, and real data."""

    denoiser: Denoiser
    noise: Tensor
    exact: Tensor
    real: Tensor


class Sizes(NamedTuple):
    """What the scales differ in."""

    num_samples: int
    reference_steps: int
    iterations: int
    batch: int
    training_steps: int


def run(setting: str, arm: str, seed: int, options: Mapping[str, Option]) -> Trial:
    """Measure the arm's schedule on every law of the setting."""
    from askesis.diffusion.denormals import denormals_as_zero

    with denormals_as_zero():
        return _measure(setting, arm, seed, options)


def _measure(setting: str, arm: str, seed: int, options: Mapping[str, Option]) -> Trial:
    import torch

    from askesis.diffusion import HAND_MADE, Solver, make_schedule, oracle_schedule, sample
    from askesis.diffusion.digits import frechet_distance

    sizes = Sizes(*(int(str(options[name])) for name in Sizes._fields))
    home = "16 dimensions" if setting == _UNSEEN else setting
    cost = 0.0
    if arm == "art_rl":
        learned = _learned(home, seed, sizes)
        cost = learned.cpu_s
    elif arm == "art_oracle":
        difficulty, cost = _difficulty(home, seed, sizes)

    def schedule(num: int) -> Schedule:
        if arm in HAND_MADE:
            return make_schedule(arm, num, sigma_max=_SIGMA_MAX, sigma_min=_SIGMA_MIN)
        if arm in _RESAMPLED:
            made = make_schedule(_RESAMPLED[arm], _CLOCK, sigma_max=_SIGMA_MAX, sigma_min=_SIGMA_MIN)
            return made.resampled(num)
        return learned.schedule.resampled(num) if arm == "art_rl" else oracle_schedule(difficulty, num)

    metrics: dict[str, list[float | None]] = {metric.name: [] for metric in STUDY.metrics}
    for law in _laws(setting, seed, sizes):
        for name, solver, num in _measurements(Solver):
            made = sample(law.denoiser, law.noise, schedule(num).sigmas, solver)
            metrics[name] += [float(part.mean()) for part in (made - law.exact).norm(dim=1).split(_PER_ITEM)]
            if name == _error(5):
                metrics["Fréchet at 5"].append(frechet_distance(made, law.real))
    levels = schedule(18).sigmas[:-1]
    curve = [(place, float(torch.tensor(level).log10())) for place, level in enumerate(levels)]
    return Trial(metrics=metrics, curve=curve, cost=cost)


def _measurements(solver: type[Solver]) -> list[tuple[str, Solver, int]]:
    euler = [(_error(num), solver.EULER, num) for num in EULER]
    return euler + [(_heun(num), solver.HEUN, num) for num in HEUN]


def _error(evaluations: int) -> str:
    return f"error at {evaluations}"


def _heun(num_steps: int) -> str:
    return f"Heun at {2 * num_steps - 1}"


@lru_cache(maxsize=4)
def _laws(setting: str, seed: int, sizes: Sizes) -> tuple[Law, ...]:
    """The laws of a setting; all arms of a seed share them."""
    from askesis.diffusion import random_mixture
    from askesis.diffusion.digits import load_digits

    if setting == _DIGITS:
        return (_law(_digits_denoiser(seed, sizes), load_digits().held_out_BD, seed, sizes),)
    rng = generator(seed, "claims", "art-diffusion", setting)
    if setting == _UNSEEN:
        mixtures = [
            random_mixture(dim, rng, num_components=num, radius=radius, std=std) for dim, num, radius, std in _SHAPES
        ]
    else:
        mixtures = [random_mixture(_MIXTURES[setting], rng)]
    return tuple(_law(mixture, mixture.draw(sizes.num_samples, rng), seed, sizes) for mixture in mixtures)


def _law(denoiser: Denoiser, real: Tensor, seed: int, sizes: Sizes) -> Law:
    from askesis.diffusion import reference
    from askesis.diffusion.targets import start_noise

    noise = start_noise(sizes.num_samples, tuple(real.shape[1:]), _SIGMA_MAX, seed=seed, name="claim")
    exact = reference(denoiser, noise, sigma_max=_SIGMA_MAX, sigma_min=_SIGMA_MIN, num_steps=sizes.reference_steps)
    return Law(denoiser, noise, exact, real)


@lru_cache(maxsize=2)
def _digits_denoiser(seed: int, sizes: Sizes) -> Denoiser:
    from askesis.diffusion.digits import load_digits, train_digits_denoiser

    return train_digits_denoiser(load_digits().train_BD, seed=seed, steps=sizes.training_steps)


@lru_cache(maxsize=4)
def _learned(home: str, seed: int, sizes: Sizes) -> Learned:
    from askesis.diffusion import LearnerSection, learn_schedule

    law = _laws(home, seed, sizes)[0]
    settings = LearnerSection(
        num_steps=_CLOCK,
        sigma_max=_SIGMA_MAX,
        sigma_min=_SIGMA_MIN,
        iterations=sizes.iterations,
        batch=sizes.batch,
        seed=seed_of(seed, "claims", "art-diffusion", home),
    )
    return learn_schedule(law.denoiser, settings, shape=tuple(law.noise.shape[1:]))


@lru_cache(maxsize=4)
def _difficulty(home: str, seed: int, sizes: Sizes) -> tuple[Difficulty, float]:
    """The difficulty along fine flows from noise of its own, and the processor seconds that it took."""
    from askesis.diffusion import measure_difficulty
    from askesis.diffusion.targets import start_noise

    law = _laws(home, seed, sizes)[0]
    started = time.process_time()
    noise = start_noise(sizes.batch, tuple(law.noise.shape[1:]), _SIGMA_MAX, seed=seed, name="difficulty")
    found = measure_difficulty(
        law.denoiser, noise, sigma_max=_SIGMA_MAX, sigma_min=_SIGMA_MIN, num_levels=sizes.reference_steps
    )
    return found, time.process_time() - started


def _arm(name: str, role: Role, note: str) -> Arm:
    return Arm(name=name, role=role, overrides={}, note=note)


_SETTINGS = (*_MIXTURES, _UNSEEN, _DIGITS)

STUDY = Experiment(
    name="art-diffusion",
    title="Adaptive reparameterised time for diffusion sampling",
    paper='Huang, Tang, Zhou 2026, "ART for Diffusion Sampling: A Reinforcement Learning Approach to Timestep '
    'Schedule", arXiv 2601.18681 and 2607.02137',
    statement="Learned noise levels give better samples than EDM's and the other hand-made schedules at equal "
    "evaluations, most of all at few, and they carry over to other data, step counts and solvers without retraining.",
    measured="The distance of each sample from where the exact flow leads from the same noise, by Euler (and, where "
    "named so, Heun) steps. Gaussian mixtures have exact scores; the digits are sampled by a small denoiser that is "
    "trained here. One schedule of 20 steps is learned per seed and setting, by the same constants, which were chosen "
    "on one Gaussian, on mixtures and on digits of seed 900. It is resampled to each number of evaluations; two "
    "baselines are resampled in the same way, because that alone helps at few steps. The Fréchet distance is that of "
    "raw values, to fresh or held-out data. The control art_oracle solves the same control problem in closed form "
    "from one pass of fine flows: what learning adds is the difference to it.",
    arms=(
        _arm("art_rl", Role.METHOD, "last step lands on 0, cost from both ends of a step, whole-trajectory credit"),
        _arm("edm", Role.BASELINE, "rho 7"),
        _arm("dpm", Role.BASELINE, "uniform in log-SNR"),
        _arm("edm_20", Role.BASELINE, "edm of 20 steps, resampled as the learned one is"),
        _arm("dpm_20", Role.BASELINE, "dpm of 20 steps, resampled as the learned one is"),
        _arm("cosine", Role.BASELINE, "in log sigma"),
        _arm("uniform", Role.BASELINE, "in sigma"),
        _arm("art_oracle", Role.CONTROL, "closed form, no learning"),
    ),
    settings=tuple(Setting(name=name) for name in _SETTINGS),
    metrics=(
        *(
            Metric(name=_error(num), unit="", lower_is_better=True, note=f"mean distance, Euler, {num} evaluations")
            for num in EULER
        ),
        *(
            Metric(
                name=_heun(num), unit="", lower_is_better=True, note=f"mean distance, Heun, {2 * num - 1} evaluations"
            )
            for num in HEUN
        ),
        Metric(name="Fréchet at 5", unit="", lower_is_better=True, note="to data, Euler, 5 evaluations"),
    ),
    parts=tuple(
        Part(
            statement=f"A smaller error than the best hand-made schedule, {num} evaluations",
            metric=_error(num),
            setting=s,
        )
        for s in ("16 dimensions", "2 dimensions", "64 dimensions", _UNSEEN, _DIGITS)
        for num in EULER
    )
    + tuple(
        Part(statement="It carries over to Heun", metric=_heun(num), setting=s)
        for s in ("16 dimensions", _DIGITS)
        for num in HEUN
    )
    + (Part(statement="Samples closer to held-out digits", metric="Fréchet at 5", setting=_DIGITS),),
    scales={
        "smoke": Scale(
            overrides={
                "num_samples": 16,
                "reference_steps": 20,
                "iterations": 2,
                "batch": 8,
                "training_steps": 10,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(
            overrides={
                "num_samples": 400,
                "reference_steps": 200,
                "iterations": 150,
                "batch": 256,
                "training_steps": 2000,
            },
            seeds=5,
            workers=2,
        ),
    },
    cost_name="processor seconds to make the schedule",
    curve=CurveLabel(name="log10 of the noise level, 18 steps", unit="", x="step"),
    run=run,
    version=2,
    shared=True,
)
