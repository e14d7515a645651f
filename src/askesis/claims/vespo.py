"""VESPO: training on samples of old weights stays stable where GRPO and GSPO fall.

Every arm makes the same number of updates on batches of the same size; only the age of the weights that sample differs
from setting to setting. A run has *collapsed* when its final held-out accuracy is below half of the best that it had
at any of its evaluations, the one before the training included. This was written down before the first run.
"""

from __future__ import annotations

from askesis.claims.reading import FinishedRun, held_out_pass
from askesis.claims.study import Arm, Direction, Metric, Part, Role, Scale, Setting, Study

__all__ = ["STUDY", "stays_up"]

_STALENESS = (1, 4, 16, 64)


def stays_up(run: FinishedRun) -> list[float | None]:
    """1 when the run has not collapsed, 0 when it has."""
    shares = {
        step: sum(task.right for task in tasks) / max(1, sum(task.judged for task in tasks))
        for step, tasks in run.evaluations.items()
    }
    return [float(shares[max(shares)] >= 0.5 * max(shares.values()))]


STUDY = Study(
    name="vespo",
    title="Variational sequence-level soft policy optimisation",
    paper='Shen et al. 2026, "VESPO: Variational Sequence-Level Soft Policy Optimization", arXiv 2602.10693',
    statement="Training stays stable and ends higher when samples are up to 64 updates old, against GRPO, GSPO, SAPO.",
    measured="nano on sums of decimals: the same 128 updates from samples of weights that are renewed every 1, 4, 16 "
    "or 64 updates. All arms have one learning rate: of 5e-4 and 2e-4 the one with which GRPO at staleness 1 keeps "
    "what it learned, on seed 900.",
    recipe={
        "environment.family": "decimal_chain_sum",
        "environment.instruction": "",
        "evaluation.temperature": 1.0,
        "evaluation.samples": 4,
        "rollout.group_size": 8,
        "sampling.max_tokens": 64,
        "training.checkpoint_every": 0,
        "training.lr": 2e-4,
        "training.warmup_steps": 1,
    },
    arms=(
        Arm(name="vespo", role=Role.METHOD, overrides={"algorithm.name": "vespo"}, note="the paper's constants"),
        Arm(
            name="grpo",
            role=Role.BASELINE,
            overrides={
                "algorithm.name": "grpo",
                "algorithm.options.clip_high": 0.28,
                "algorithm.options.kl_beta": 0.0,
            },
            note="clip 0.2 and 0.28, no KL, as in the paper's comparison",
        ),
        Arm(name="gspo", role=Role.BASELINE, overrides={"algorithm.name": "gspo"}),
        Arm(name="sapo", role=Role.BASELINE, overrides={"algorithm.name": "sapo"}),
    ),
    settings=tuple(Setting(name=f"staleness {n}", overrides={"training.staleness": n}) for n in _STALENESS),
    metrics=(
        Metric(name="reward", read=held_out_pass(1), note="held-out reward of the final weights, at temperature 1"),
        Metric(name="stays up", read=stays_up, note="share of runs that have not collapsed"),
    ),
    parts=(
        Part(statement="A higher final reward at staleness 64", metric="reward", setting="staleness 64"),
        Part(
            statement="No less reward at staleness 1",
            metric="reward",
            setting="staleness 1",
            direction=Direction.NOT_BELOW,
            margin=0.05,
        ),
        Part(
            statement="It stays up at staleness 64 as often as any other",
            metric="stays up",
            setting="staleness 64",
            direction=Direction.NOT_BELOW,
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
                "evaluation.num_tasks": 2,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(
            overrides={
                "training.steps": 128,
                "rollout.groups_per_step": 3,
                "evaluation.num_tasks": 48,
                "evaluation.every": 64,
            },
            seeds=3,
            workers=2,
        ),
    },
)
