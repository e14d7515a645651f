"""AEM: more advantage on turns that the policy was sure of. It should help where those turns decide, and only there.

Both worlds are a quiz of two kinds of questions with one reward at its end. Nano is surer of simplified fractions than
of arithmetic: 0.18 against 0.44 nats per token at the start. In one world the reward hangs on the fractions only, in
the other on the arithmetic only. A modulation that helps in both is no evidence for the reason that the paper gives.
"""

from __future__ import annotations

from askesis.claims.reading import held_out_pass, training_mean
from askesis.claims.study import Arm, Direction, Metric, Overrides, Part, Role, Scale, Setting, Study

__all__ = ["ARMS", "PAPER", "STUDY"]

_SURE, _UNSURE = "sure turns decide", "unsure turns decide"
_EASY_FRACTIONS = {"max_value": 15, "max_factor": 6}


def _quiz(counted: str, other: str, fractions: str) -> Overrides:
    return {
        "environment.name": "quiz",
        "environment.family": counted,
        "environment.options.other": other,
        **{f"environment.options.{fractions}_{key}": value for key, value in _EASY_FRACTIONS.items()},
    }


def _grpo(**modulation: str | float) -> Overrides:
    options = {f"algorithm.options.{key}": value for key, value in modulation.items()}
    return {"algorithm.name": "grpo_aem", "algorithm.options.kl_beta": 0.0, **options}


ARMS = (
    Arm(name="aem", role=Role.METHOD, overrides=_grpo(), note="lambda = 1 within the group, as in the paper"),
    Arm(name="grpo", role=Role.BASELINE, overrides=_grpo(modulator="none"), note="the same objective without AEM"),
    Arm(
        name="reversed",
        role=Role.CONTROL,
        overrides=_grpo(aem_lambda=-1.0),
        note="lambda = -1: more advantage on unsure turns; the paper finds that it hurts",
    ),
)
"""The same in every world."""

PAPER = (
    'Zhao et al. 2026, "AEM: Adaptive Entropy Modulation for Multi-Turn Agentic Reinforcement Learning", '
    "arXiv 2605.00425"
)


STUDY = Study(
    name="aem",
    title="Adaptive entropy modulation of the turns' advantages",
    paper=PAPER,
    statement="Scaling each turn's advantage by how sure the policy was of it gives better credit in multi-turn tasks "
    "than the same objective without it.",
    measured="nano plays quizzes of two fractions and two pieces of arithmetic, one a turn, with one reward at the "
    "end. It is surer of the fractions. In one world the reward hangs on the fractions alone, in the other on the "
    "arithmetic alone. Learning rate and length were chosen on seed 900 with GRPO.",
    recipe={
        "environment.instruction": "",
        "evaluation.samples": 4,
        "evaluation.temperature": 1.0,
        "rollout.group_size": 8,
        "sampling.max_tokens": 96,
        "training.checkpoint_every": 0,
        "training.lr": 3e-4,
        "training.warmup_steps": 1,
    },
    arms=ARMS,
    settings=(
        Setting(name=_SURE, overrides=_quiz("fraction_simplification", "basic_arithmetic", "counted")),
        Setting(name=_UNSURE, overrides=_quiz("basic_arithmetic", "fraction_simplification", "other")),
    ),
    metrics=(
        Metric(name="success", read=held_out_pass(1), note="held-out quizzes solved after the training"),
        Metric(name="success in training", read=training_mean("accuracy"), note="mean over all training steps"),
    ),
    parts=(
        Part(statement="Better where sure turns decide", metric="success", setting=_SURE, against="grpo"),
        Part(statement="Better than its reverse there", metric="success", setting=_SURE, against="reversed"),
        Part(
            statement="No help where unsure turns decide",
            metric="success",
            setting=_UNSURE,
            against="grpo",
            direction=Direction.NOT_ABOVE,
            margin=0.02,
        ),
    ),
    scales={
        "smoke": Scale(
            overrides={
                "training.steps": 2,
                "rollout.groups_per_step": 2,
                "rollout.group_size": 2,
                "sampling.max_tokens": 16,
                "environment.options.counted_turns": 1,
                "environment.options.other_turns": 1,
                "evaluation.num_tasks": 2,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(
            overrides={"training.steps": 30, "rollout.groups_per_step": 4, "evaluation.num_tasks": 96},
            seeds=4,
            workers=2,
        ),
    },
)
