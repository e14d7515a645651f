"""DGPO: more advantage on tokens at which an unsure policy leaves its reference, in place of a KL penalty.

The paper's temperature leaves the weights of a policy with small entropies close to 1, so the sweep goes down to 0.05
and has one arm with another normaliser, in which the weights differ much.
"""

from __future__ import annotations

import statistics

from askesis.claims.reading import FinishedRun, held_out_pass
from askesis.claims.study import Arm, Direction, Metric, Overrides, Part, Role, Scale, Setting, Study

__all__ = ["STUDY", "unsteadiness"]

_SETTING = "products"


def unsteadiness(run: FinishedRun) -> list[float | None]:
    """The standard deviation of the gradient's norm over the steps, divided by its mean; 0 when all norms are 0."""
    norms = [value for _, value in run.series["grad_norm"] if value is not None]
    return [statistics.pstdev(norms) / (statistics.fmean(norms) or 1.0)]


def _dgpo(tau: float, **options: str | float | bool) -> Overrides:
    return {
        "algorithm.name": "dgpo_hellinger",
        "algorithm.options.dgpo_tau": tau,
        **{f"algorithm.options.{key}": value for key, value in options.items()},
    }


def _grpo(kl_beta: float) -> Overrides:
    return {"algorithm.name": "grpo", "algorithm.options.kl_beta": kl_beta}


STUDY = Study(
    name="dgpo",
    title="Distribution-guided credit for tokens",
    paper='Jin et al. 2026, "DGPO: Distribution-Guided Policy Optimization", arXiv 2605.03327',
    statement="Credit guided by the Hellinger distance from the reference learns better than GRPO with a KL penalty, "
    "explores as much and stays stable.",
    measured="nano on products of numbers of two digits, which it solves by reasoning once it has learned to: held-out "
    "answers at temperature 1. All arms have one learning rate; on seeds 900 and 901 the paper's temperature was no "
    "worse than the others, so it is the method's.",
    recipe={
        "environment.family": "products",
        "environment.instruction": "",
        "evaluation.samples": 16,
        "evaluation.temperature": 1.0,
        "rollout.group_size": 8,
        "rollout.groups_per_step": 8,
        "sampling.max_tokens": 96,
        "training.checkpoint_every": 0,
        "training.lr": 2e-4,
        "training.warmup_steps": 1,
    },
    arms=(
        Arm(name="dgpo 0.5", role=Role.METHOD, overrides=_dgpo(0.5), note="the paper's constants"),
        Arm(name="grpo", role=Role.BASELINE, overrides=_grpo(0.0), note="without KL"),
        Arm(name="grpo with kl", role=Role.BASELINE, overrides=_grpo(0.04), note="KL weight 0.04"),
        Arm(name="dgpo 0.1", role=Role.VARIANT, overrides=_dgpo(0.1)),
        Arm(name="dgpo 0.05", role=Role.VARIANT, overrides=_dgpo(0.05)),
        Arm(
            name="dgpo 0.1 own",
            role=Role.VARIANT,
            overrides=_dgpo(0.1, dgpo_max_entropy="response_max"),
            note="entropies are divided by the largest of the answer, not by that of the vocabulary: sharper weights",
        ),
        Arm(
            name="dgpo 0.1 no gate",
            role=Role.CONTROL,
            overrides=_dgpo(0.1, dgpo_kappa=0.0),
            note="kappa = 0: distance alone, sure tokens too",
        ),
    ),
    settings=(Setting(name=_SETTING),),
    metrics=(
        Metric(name="pass@1", read=held_out_pass(1)),
        Metric(name="pass@16", read=held_out_pass(16)),
        Metric(name="unsteadiness", read=unsteadiness, note="deviation of the gradient's norm over its mean"),
    ),
    parts=(
        Part(statement="More right answers", metric="pass@1", setting=_SETTING),
        Part(
            statement="No loss of exploration",
            metric="pass@16",
            setting=_SETTING,
            direction=Direction.NOT_BELOW,
            margin=0.02,
        ),
        Part(
            statement="Gradients as steady as with KL",
            metric="unsteadiness",
            setting=_SETTING,
            against="grpo with kl",
            direction=Direction.NOT_ABOVE,
            margin=0.1,
        ),
    ),
    scales={
        "smoke": Scale(
            overrides={
                "training.steps": 2,
                "rollout.groups_per_step": 2,
                "rollout.group_size": 2,
                "sampling.max_tokens": 16,
                "evaluation.num_tasks": 1,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(overrides={"training.steps": 40, "evaluation.num_tasks": 64}, seeds=4, workers=2),
    },
)
