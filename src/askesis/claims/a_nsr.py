"""A-NSR: more right answers at the first try without losing those at the sixty-fourth.

The decisive control is W-REINFORCE with the same falling scale: under Adam a falling weight of the loss acts like a
falling learning rate, and that alone changes both numbers.
"""

from __future__ import annotations

from askesis.claims.reading import held_out_pass
from askesis.claims.study import Arm, Direction, Metric, Overrides, Part, Role, Scale, Setting, Study

__all__ = ["STUDY"]

_SETTING = "gcd up to 300"


def _signed(name: str) -> Overrides:
    return {"algorithm.name": name}


STUDY = Study(
    name="a-nsr",
    title="Adaptive negative reinforcement",
    paper='Ingle et al. 2026, "Adaptive Negative Reinforcement for LLM Reasoning", arXiv 2605.07137',
    statement="A falling weight of wrong answers and a growing weight of right ones gives more right answers at k = 1 "
    "without losing pass@k, against PSR, NSR, W-REINFORCE and GRPO.",
    measured="nano on greatest common divisors of numbers up to 300 (it was trained up to 100): held-out pass@k for k "
    "up to 64, at temperature 1. All arms have one learning rate, chosen on seeds 900 and 901.",
    recipe={
        "environment.family": "gcd",
        "environment.options.max_value": 300,
        "environment.instruction": "",
        "evaluation.temperature": 1.0,
        "rollout.groups_per_step": 8,
        "rollout.group_size": 8,
        "sampling.max_tokens": 96,
        "training.checkpoint_every": 0,
        "training.lr": 2e-4,
        "training.warmup_steps": 1,
    },
    arms=(
        Arm(name="a_nsr", role=Role.METHOD, overrides=_signed("a_nsr"), note="schedule 1 with the paper's constants"),
        Arm(name="nsr", role=Role.BASELINE, overrides=_signed("nsr")),
        Arm(name="psr", role=Role.BASELINE, overrides=_signed("psr")),
        Arm(name="w_reinforce", role=Role.BASELINE, overrides=_signed("w_reinforce")),
        Arm(
            name="grpo",
            role=Role.BASELINE,
            overrides={"algorithm.name": "grpo", "algorithm.options.kl_beta": 0.001},
            note="with the KL weight that the parent paper gave it",
        ),
        Arm(
            name="w_reinforce_decay",
            role=Role.CONTROL,
            overrides=_signed("w_reinforce_decay"),
            note="W-REINFORCE times A-NSR's falling weight: the scale without the changing ratio",
        ),
        Arm(
            name="ratio_only",
            role=Role.CONTROL,
            overrides={"algorithm.name": "a_nsr", "algorithm.options.acting": "ratio"},
            note="A-NSR divided by its falling weight: the changing ratio without the scale",
        ),
    ),
    settings=(Setting(name=_SETTING),),
    metrics=tuple(Metric(name=f"pass@{k}", read=held_out_pass(k)) for k in (1, 4, 16, 64)),
    parts=(
        Part(statement="More right answers at the first try", metric="pass@1", setting=_SETTING),
        Part(
            statement="More of them than the falling scale alone gives",
            metric="pass@1",
            setting=_SETTING,
            against="w_reinforce_decay",
        ),
        Part(
            statement="No loss at the sixty-fourth try",
            metric="pass@64",
            setting=_SETTING,
            direction=Direction.NOT_BELOW,
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
                "evaluation.num_tasks": 1,
                "evaluation.samples": 64,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(
            overrides={"training.steps": 40, "evaluation.num_tasks": 64, "evaluation.samples": 64}, seeds=4, workers=2
        ),
    },
)
