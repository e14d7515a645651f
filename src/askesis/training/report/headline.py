"""The one sentence that a run comes to, in words and as JSON, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from askesis.evaluation import Interval
from askesis.training.report.data import Evaluation, ReportData

__all__ = ["Headline", "Outcome", "changes", "headline", "headline_json", "percent", "percent_interval"]


class Outcome(StrEnum):
    """What the evaluations show."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE_SHOWN = "no difference shown"
    SINGLE = "single evaluation"
    NOTHING = "nothing evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Headline:
    """The evaluations that are compared, and what follows. A single evaluation is ``after``."""

    outcome: Outcome
    before: Evaluation | None
    after: Evaluation | None
    verdict: str
    caveats: tuple[str, ...]


def headline(data: ReportData) -> Headline:
    """Compare the first evaluation with the last one of the same temperature, among those with a graded answer."""
    graded = [e for e in data.evaluations if e.n]
    if not graded:
        return Headline(
            outcome=Outcome.NOTHING,
            before=None,
            after=None,
            verdict="No held-out evaluation has been made, so nothing is claimed.",
            caveats=(),
        )
    first = graded[0]
    last = [e for e in graded if e.temperature == first.temperature][-1]
    if last is first:
        verdict = "One evaluation only: nothing to compare it with."
        return Headline(
            outcome=Outcome.SINGLE, before=None, after=first, verdict=verdict, caveats=_caveats(data, [first])
        )
    outcome, verdict = _compare(first, last)
    return Headline(outcome=outcome, before=first, after=last, verdict=verdict, caveats=_caveats(data, [first, last]))


def _compare(before: Evaluation, after: Evaluation) -> tuple[Outcome, str]:
    points = 100 * ((after.accuracy or 0.0) - (before.accuracy or 0.0))
    size = f"{abs(points):.1f} points"
    if before.interval is None or after.interval is None:
        return Outcome.NO_DIFFERENCE_SHOWN, f"No difference shown: {size} apart, without intervals."
    if before.interval.overlaps(after.interval):
        return (
            Outcome.NO_DIFFERENCE_SHOWN,
            f"No difference shown: {size} {'up' if points >= 0 else 'down'}, and the intervals overlap.",
        )
    if points > 0:
        return Outcome.BETTER, f"Better by {size}; the intervals do not overlap."
    return Outcome.WORSE, f"Worse by {size}; the intervals do not overlap."


def _caveats(data: ReportData, compared: Sequence[Evaluation]) -> tuple[str, ...]:
    """What a careful reader should know before believing the headline."""
    after, notes = compared[-1], []
    if after.best_constant is not None and after.interval is not None and after.interval.low <= after.best_constant:
        notes.append(
            f"Always giving the commonest answer would score {percent(after.best_constant)}; "
            f"the accuracy of {after.label!r} is not shown to be above that."
        )
    if len({e.n for e in compared}) > 1:
        notes.append("The two evaluations graded different numbers of answers.")
    errors = sum(e.errors for e in compared)
    if errors:
        notes.append(f"{errors:,} answers could not be graded and are not counted.")
    failed = [check.name for check in data.self_checks if not check.passed]
    if failed:
        notes.append(
            f"{len(failed)} self-check{'s' * (len(failed) > 1)} failed, so the numbers may not mean what they say."
        )
    if data.status != "finished":
        notes.append(f"The run's status is {data.status!r}: this is not its final result.")
    return tuple(notes)


def changes(data: ReportData) -> list[tuple[str, str, str]]:
    """``(what, before, after)`` of the compared evaluations, to tell at a glance what the policy learned."""
    head = headline(data)
    if head.before is None or head.after is None:
        return []
    before, after = head.before, head.after
    rows = [
        ("Thinks first", before.think_share, after.think_share),
        ("In the asked-for format", before.format_share, after.format_share),
    ]
    common = sorted(set(before.pass_at_k) & set(after.pass_at_k))
    if common and common[-1] > 1:
        k = common[-1]
        rows.append((f"Solved in {k} tries (pass@{k})", before.pass_at_k[k].value, after.pass_at_k[k].value))
    return [(what, percent(a), percent(b)) for what, a, b in rows if a is not None and b is not None]


def headline_json(data: ReportData) -> dict[str, Any]:
    """The headline as JSON-ready values; accuracies and intervals are shares between 0 and 1."""
    head = headline(data)
    return {
        "run_id": data.run_id,
        "status": data.status,
        "outcome": head.outcome.value,
        "verdict": head.verdict,
        "caveats": list(head.caveats),
        "before": _evaluation_json(head.before),
        "after": _evaluation_json(head.after),
        "seed": data.seed,
        "recipe_hash": data.recipe_hash,
        "command": data.command,
    }


def _evaluation_json(evaluation: Evaluation | None) -> dict[str, Any] | None:
    if evaluation is None:
        return None
    return {
        "label": evaluation.label,
        "n": evaluation.n,
        "successes": evaluation.successes,
        "accuracy": evaluation.accuracy,
        "interval": None if evaluation.interval is None else list(evaluation.interval),
        "temperature": evaluation.temperature,
        "best_constant": evaluation.best_constant,
        "errors": evaluation.errors,
    }


def percent(share: float | None) -> str:
    """``0.312`` as ``31.2 %``; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f} %"


def percent_interval(interval: Interval | None) -> str:
    """``[27.3, 35.4]`` in per cent; empty for None."""
    return "" if interval is None else f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
