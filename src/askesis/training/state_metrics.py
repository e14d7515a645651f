"""What a step's state scores say, for charts and claims."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from askesis.store import Group
from askesis.trace import StateScore, Verdict

__all__ = ["MAX_DEPTH", "ranking_area", "state_metrics"]

MAX_DEPTH = 8
"""Deeper states have no chart of their own."""


def state_metrics(groups: Sequence[Group]) -> dict[str, float | None]:
    """Over the sessions whose states were scored; nothing where none was.

    Returns:
        ``state_value_T``: mean value of state T, over the sessions that reached it. ``state_value_ready``: of the
        states that hold all that the answer takes. ``state_gain``: mean gain of a turn, and ``state_gain_zero``: share
        of turns without any. ``state_outcome_gap``: mean |outcome - value of the last state|. ``gain_auc``: how well
        the gain tells turns that found a needed fact from the others. ``answer_tokens``: sampled for answers.
    """
    members = [m for g in groups for m in g.members if m.verdict.states]
    if not members:
        return {}
    found: dict[str, list[float]] = {}
    for member in members:
        _note(member.verdict, found)
        found.setdefault("answer_tokens", []).append(
            float(sum(len(c.sampled) for c in member.trace.calls if c.fork is not None))
        )
    steps = [pair for m in members for pair in pairwise(m.verdict.states)]
    known = [(b.value - a.value, b.truth > a.truth) for a, b in steps if a.truth is not None and b.truth is not None]
    metrics: dict[str, float | None] = {name: float(np.mean(values)) for name, values in found.items()}
    metrics["gain_auc"] = ranking_area([gain for gain, _ in known], [is_found for _, is_found in known])
    return metrics


def _note(verdict: Verdict, found: dict[str, list[float]]) -> None:
    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    states: Sequence[StateScore] = verdict.states
    for state in states[: MAX_DEPTH + 1]:
        note(f"state_value_{state.state}", state.value)
    for state in states:
        if state.truth == 1.0:
            note("state_value_ready", state.value)
    for before, after in pairwise(states):
        note("state_gain", after.value - before.value)
        note("state_gain_zero", float(after.value == before.value))
    if verdict.reward is not None:
        note("state_outcome_gap", abs(verdict.reward - states[-1].value))


def ranking_area(scores: Sequence[float], labels: Sequence[bool]) -> float | None:
    """Area under the receiver operating characteristic: the chance that a positive has the higher score, ties counting
    half. None without a positive or without a negative.
    """
    score, label = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    positive, negative = score[label], score[~label]
    if not len(positive) or not len(negative):
        return None
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, side="left")
    upto = np.searchsorted(ordered, positive, side="right")
    return float((below + upto).sum() / (2 * len(positive) * len(negative)))
