"""A-NSR: the weights of right and wrong answers change as the training goes on.

Ingle et al. 2026, "Adaptive Negative Reinforcement for LLM Reasoning", arXiv 2605.07137.
"""

from __future__ import annotations

import math
from enum import StrEnum

from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.estimators.signed import SUCCESS_AT, signed
from askesis.algorithms.stages import EstimatorStage, Param
from askesis.algorithms.types import RewardBatch
from askesis.errors import AlgorithmError

__all__ = ["A_NSR", "Acting", "NegativeSchedule", "a_nsr", "negative_weight", "positive_weight"]


class NegativeSchedule(StrEnum):
    """How the weight of wrong answers falls from its highest to its lowest value."""

    EXPONENTIAL = "exponential"
    """Schedule 1, which the authors recommend."""
    COSINE = "cosine"
    """Schedule 2."""
    ACCURACY = "accuracy"
    """Schedule 3: with the share of right answers in the batch."""


class Acting(StrEnum):
    """Which part of the schedule acts; the two halves are the controls that tell what an effect of the whole is."""

    BOTH = "both"
    SCALE = "scale"
    """W-REINFORCE times the falling weight: A(right) = positive_max * beta(t), A(wrong) = -beta(t)."""
    RATIO = "ratio"
    """A(right) = lambda(t) / beta(t), A(wrong) = -1."""


def negative_weight(
    schedule: NegativeSchedule, *, progress: float, accuracy: float, low: float, high: float, decay: float
) -> float:
    """beta(t), from ``high`` down to ``low``.

    exponential  low + (high - low) * exp(-decay * progress)
    cosine       low + (high - low) * (1 + cos(pi * progress)) / 2
    accuracy     low + (high - low) * (1 - accuracy)
    """
    match schedule:
        case NegativeSchedule.EXPONENTIAL:
            share = math.exp(-decay * progress)
        case NegativeSchedule.COSINE:
            share = (1 + math.cos(math.pi * progress)) / 2
        case NegativeSchedule.ACCURACY:
            share = 1 - accuracy
    return low + (high - low) * share


def positive_weight(*, progress: float, low: float, high: float) -> float:
    """lambda(t), linearly from ``low`` to ``high``."""
    return low + (high - low) * progress


def a_nsr(
    batch: RewardBatch,
    *,
    success_at: float,
    negative_schedule: NegativeSchedule,
    negative_max: float,
    negative_min: float,
    negative_decay: float,
    positive_min: float,
    positive_max: float,
    acting: Acting,
) -> Tensor:
    """Adaptive negative sample reinforcement.

        L = lambda(t) * L_PSR + beta(t) * L_NSR:   A(right) = lambda(t),  A(wrong) = -beta(t)

    arXiv 2605.07137: beta is :func:`negative_weight`, lambda is :func:`positive_weight` (the source gives it for
    schedule 1 only; we use it for all). t is ``batch.progress``, so the paper's kappa per step is our
    ``negative_decay`` divided by the number of steps (0.03 * 150 = 4.5). The accuracy of schedule 3 is that of this
    batch. Equal bounds switch a schedule off. No input receives gradient.

    Args:
        batch: rewards and ``progress``.
        success_at: the reward from which an answer counts as right.
        negative_schedule: the course of beta.
        negative_max: beta at the start.
        negative_min: beta at the end.
        negative_decay: how fast the exponential falls, per whole training.
        positive_min: lambda at the start.
        positive_max: lambda at the end.
        acting: both weights, or one half of their effect as a control.

    Returns:
        [B] advantages.
    """
    progress = required(batch.progress, "progress", "estimator 'a_nsr'")
    beta = negative_weight(
        negative_schedule,
        progress=progress,
        accuracy=float((batch.reward_B >= success_at).double().mean()),
        low=negative_min,
        high=negative_max,
        decay=negative_decay,
    )
    slope = positive_weight(progress=progress, low=positive_min, high=positive_max)
    match acting:
        case Acting.BOTH:
            positive, negative = slope, beta
        case Acting.SCALE:
            positive, negative = positive_max * beta, beta
        case Acting.RATIO:
            if beta == 0:
                raise AlgorithmError("acting = 'ratio' divides by beta(t), which is 0", next_step="raise negative_min")
            positive, negative = slope / beta, 1.0
    return signed(batch, success_at=success_at, positive_weight=positive, negative_weight=negative)


A_NSR = EstimatorStage(
    name="a_nsr",
    function=a_nsr,
    summary="lambda(t) for a right answer, -beta(t) for a wrong one; lambda grows, beta falls",
    needs=frozenset({"progress"}),
    judges_success=True,
    params=(
        SUCCESS_AT,
        Param(
            name="negative_schedule",
            kind=NegativeSchedule,
            default=NegativeSchedule.EXPONENTIAL,
            why="how the weight of wrong answers falls",
        ),
        Param(name="negative_max", kind=float, default=1.5, minimum=0, why="weight of wrong answers at the start"),
        Param(name="negative_min", kind=float, default=0.5, minimum=0, why="weight of wrong answers at the end"),
        Param(
            name="negative_decay",
            kind=float,
            default=4.5,
            minimum=0,
            why="how fast the exponential falls over the whole training; the paper's kappa times its number of steps",
        ),
        Param(name="positive_min", kind=float, default=0.05, minimum=0, why="weight of right answers at the start"),
        Param(name="positive_max", kind=float, default=0.2, minimum=0, why="weight of right answers at the end"),
        Param(
            name="acting",
            kind=Acting,
            default=Acting.BOTH,
            why="both weights change, or only their common scale, or only their ratio (the two controls)",
        ),
    ),
)
