"""From rewards to the weight of each member of a population. Plain numbers: a population has tens of members."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["EPSILON", "centred", "member_scores", "raw", "z_scores"]

EPSILON = 1e-8
"""Added to the standard deviation, as in both official codes."""


def z_scores(scores: Sequence[float | None]) -> list[float]:
    """``(R - mean) / (std + 1e-8)`` with the population's standard deviation (ddof 0): how members do against each
    other (Qiu et al. 2025, Algorithm 2, step 3).

    A member without a score takes no part and gets 0. Equal scores give exact zeros.
    """
    offsets = centred(scores)
    known = [offset for offset, score in zip(offsets, scores, strict=True) if score is not None]
    if not any(known):
        return [0.0] * len(scores)
    deviation = math.sqrt(math.fsum(offset * offset for offset in known) / len(known))
    return [offset / (deviation + EPSILON) for offset in offsets]


def centred(scores: Sequence[float | None]) -> list[float]:
    """``R - mean``; 0 for a member without a score. Equal scores give exact zeros."""
    known = [score for score in scores if score is not None]
    if not known or max(known) == min(known):
        return [0.0] * len(scores)
    mean = math.fsum(known) / len(known)
    return [0.0 if score is None else score - mean for score in scores]


def raw(scores: Sequence[float | None]) -> list[float]:
    """``R`` as it is: no comparison between members. For ablations."""
    return [0.0 if score is None else score for score in scores]


def member_scores(rewards: Sequence[Sequence[float | None]]) -> list[float | None]:
    """Mean reward of each member over its tasks.

    Args:
        rewards: one row per task, one column per member; None where a session failed.

    Returns:
        One score per member; None for a member of which no session was judged. Where sessions failed, a member is
        measured by how far it is from the others on the tasks that it has: a hard task that it missed is no merit.
    """
    if not rewards:
        return []
    if all(reward is not None for row in rewards for reward in row):
        return [math.fsum(row[n] or 0.0 for row in rewards) / len(rewards) for n in range(len(rewards[0]))]
    means = [_mean([reward for reward in row if reward is not None]) for row in rewards]
    level = _mean([mean for mean in means if mean is not None])
    scores: list[float | None] = []
    for n in range(len(rewards[0])):
        pairs = [(row[n], mean) for row, mean in zip(rewards, means, strict=True)]
        lead = _mean([own - mean for own, mean in pairs if own is not None and mean is not None])
        scores.append(None if lead is None or level is None else level + lead)
    return scores


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
