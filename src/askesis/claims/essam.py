"""ESSAM: the accuracy of GRPO with the memory of sampling, and weights that bear being disturbed.

Every arm samples the same number of answers in every step: a population of 16 members, ESSAM's two populations of 8,
or GRPO's 16 answers to a task. GRPO gets its own learning rate and every advantage that a gradient gives.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from askesis.claims.reading import FinishedRun, held_out_pass
from askesis.claims.running import clean_processes
from askesis.claims.study import Arm, Direction, Metric, Overrides, Part, Role, Scale, Setting, Study
from askesis.clock import SystemClock
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.training.rundir import RunDir, write_json

__all__ = ["STUDY", "disturbed", "longer", "peak_memory"]

_SETTING = "sums of decimals"
_SIGMA = 0.005
_LONGER: Overrides = {"environment.options.min_terms": 5, "environment.options.max_terms": 5}
_NOISE_SEEDS = (1, 2)


def longer(run: FinishedRun) -> list[float | None]:
    """Share of longer sums, which were not trained on, that the final weights get right. Kept beside the run."""
    return [_kept(run.path / "longer.json", lambda: _accuracy(_recipe(run.path, _LONGER), run.path / "model"))]


def disturbed(run: FinishedRun) -> list[float | None]:
    """Share of held-out answers that are right when noise of the standard deviation that evolution trains with is added
    to the final weights: what a flat optimum bears. Kept beside the run.
    """
    return [_kept(run.path / "disturbed.json", lambda: _disturbed(run.path))]


def peak_memory(run: FinishedRun) -> list[float | None]:
    """Largest resident memory, MB, of one step of the same recipe in a process of its own: in the claim's processes one
    run follows the other, and the peak would be that of the largest. Kept beside the run.
    """
    return [_kept(run.path / "memory.json", lambda: _peak(run.path))]


def _kept(path: Path, compute: Callable[[], float]) -> float:
    """A number that is computed once."""
    if not path.exists():
        write_json(path, {"value": compute()})
    return float(json.loads(path.read_text(encoding="utf-8"))["value"])


def _recipe(path: Path, changes: Overrides) -> Resolved[Recipe]:
    """The recipe of a run, with other values."""
    known = {key: value for key, value in RunDir(path).identity()["recipe"].items() if value is not None}
    return load_recipe(None, [f"{key}={json.dumps(value)}" for key, value in {**known, **changes}.items()])


def _accuracy(resolved: Resolved[Recipe], model: Path) -> float:
    """Held-out accuracy of the model in a folder."""
    from askesis.training.evaluating import evaluate_policy
    from askesis.training.preflight import open_world

    recipe = resolved.recipe
    recipe = recipe.model_copy(update={"policy": recipe.policy.model_copy(update={"name": str(model), "lora_rank": 0})})
    return asyncio.run(evaluate_policy(recipe, open_world(recipe))).accuracy or 0.0


def _disturbed(path: Path) -> float:
    from askesis.learners.evolution.noise import BLOCK, seeded_noise
    from askesis.policy.loading import load_policy, save_policy

    shares = []
    for seed in _NOISE_SEEDS:
        policy = load_policy(str(path / "model"), device="cpu")
        for name, parameter in policy.trainable():
            for number, part in enumerate(parameter.data.view(-1).split(BLOCK)):
                part.add_(seeded_noise(seed, name, number, len(part), part.device), alpha=_SIGMA)
        with tempfile.TemporaryDirectory() as folder:
            save_policy(policy, Path(folder))
            shares.append(_accuracy(_recipe(path, {}), Path(folder)))
    return sum(shares) / len(shares)


def _peak(path: Path) -> float:
    with ProcessPoolExecutor(1, mp_context=clean_processes()) as pool, tempfile.TemporaryDirectory() as folder:
        return pool.submit(_one_step, path, Path(folder) / "run").result()


def _one_step(path: Path, place: Path) -> float:
    """Train a run's recipe for one step in ``place``; the process's peak, MB."""
    from askesis.training.loop import train
    from askesis.training.preflight import prepare
    from askesis.training.progress import PlainProgress

    short: Overrides = {"training.steps": 1, "training.warmup_steps": 0, "evaluation.num_tasks": 0}
    resolved = _recipe(path, {**short, "run.dir": str(place)})
    prepared = prepare(resolved)
    quiet = PlainProgress(io.StringIO(), clock=SystemClock())
    return train(resolved, prepared.run, prepared.world, quiet).peak_rss_mb


def _evolution(method: str, **options: float | bool) -> Overrides:
    section: Overrides = {
        "method": method,
        "sigma": _SIGMA,
        "alpha": 2 * _SIGMA,
        "rho": _SIGMA / 2,
        "side_by_side": 8,  # saves time, and holds eight copies of the weights
        **options,
    }
    return {"learner.kind": "evolution", **{f"learner.evolution.{key}": value for key, value in section.items()}}


STUDY = Study(
    name="essam",
    title="Evolution strategies with sharpness-aware maximisation",
    paper='Sun et al. 2026, "ESSAM: A Novel Competitive Evolution Strategies Approach to Reinforcement Learning for '
    'Memory Efficient LLMs Fine-Tuning", arXiv 2602.01003',
    statement="Evolution with a sharpness-aware step reaches the accuracy of GRPO with less memory, and generalises "
    "better than evolution without it.",
    measured="nano on sums of decimals: held-out answers at temperature 1; the same with noise on the final weights; "
    "longer sums, which were not trained on; and the peak memory of a step. All arms sample equally many answers in "
    "equally many steps. Sigma and alpha were chosen on seed 900, by one pilot of ES in opposite pairs and one "
    "of ESSAM; rho is half of sigma, as in the official defaults; GRPO has the learning rate of the quickstart.",
    recipe={
        "environment.family": "decimal_chain_sum",
        "environment.instruction": "",
        "evaluation.temperature": 1.0,
        "evaluation.samples": 4,
        "rollout.groups_per_step": 16,
        "rollout.group_size": 16,
        "sampling.max_tokens": 64,
        "training.checkpoint_every": 0,
    },
    arms=(
        Arm(
            name="essam",
            role=Role.METHOD,
            overrides=_evolution("essam"),
            note="two populations of 8; the displacement is not normalised, as in the official code",
        ),
        Arm(name="es", role=Role.BASELINE, overrides=_evolution("es"), note="one population of 16"),
        Arm(
            name="grpo",
            role=Role.BASELINE,
            overrides={
                "algorithm.name": "grpo",
                "algorithm.options.kl_beta": 0.0,
                "training.lr": 1.5e-4,
                "training.warmup_steps": 1,
            },
        ),
        Arm(
            name="no_sharpness",
            role=Role.CONTROL,
            overrides=_evolution("essam", rho=0.0),
            note="ESSAM without a displacement: its first population is wasted",
        ),
        Arm(
            name="no_competition",
            role=Role.CONTROL,
            overrides=_evolution("essam", compares=False),
            note="rewards as they are, not compared within the population (our reading: no source defines competition)",
        ),
        Arm(
            name="essam_f",
            role=Role.VARIANT,
            overrides=_evolution("essam_f", rho=_SIGMA * 100),
            note="3 and 13 members; the displacement has a norm of its own",
        ),
    ),
    settings=(Setting(name=_SETTING),),
    metrics=(
        Metric(name="accuracy", read=held_out_pass(1), note="held-out answers, at temperature 1"),
        Metric(name="noisy weights", read=disturbed, note=f"the same, with noise of {_SIGMA:g} on the weights"),
        Metric(name="longer sums", read=longer, note="five terms instead of three or four"),
        Metric(name="peak memory", read=peak_memory, note="of one step", unit="MB", lower_is_better=True),
    ),
    parts=(
        Part(
            statement="No less accuracy than GRPO",
            metric="accuracy",
            setting=_SETTING,
            against="grpo",
            direction=Direction.NOT_BELOW,
            margin=0.02,
        ),
        Part(statement="More accuracy than plain ES", metric="accuracy", setting=_SETTING, against="es"),
        Part(
            statement="Weights that bear more noise than those of plain ES",
            metric="noisy weights",
            setting=_SETTING,
            against="es",
        ),
        Part(statement="More longer sums than plain ES", metric="longer sums", setting=_SETTING, against="es"),
        Part(statement="Less memory than GRPO", metric="peak memory", setting=_SETTING, against="grpo"),
    ),
    scales={
        "smoke": Scale(
            overrides={
                "training.steps": 2,
                "rollout.groups_per_step": 2,
                "rollout.group_size": 10,
                "sampling.max_tokens": 8,
                "evaluation.num_tasks": 2,
                "evaluation.samples": 1,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(overrides={"training.steps": 24, "evaluation.num_tasks": 96}, seeds=3, workers=2),
    },
)
