"""From trials to a verdict: what each arm reached, what the method has over it, and whether the claim's parts hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from askesis.claims.claim import SHARE, Claim, Direction, Metric, Part, Role, Scale, Trial, number
from askesis.claims.running import Finished
from askesis.claims.statistics import Estimate, estimate, paired

__all__ = ["ArmResult", "ClaimResult", "Curve", "PartResult", "judge"]


class Curve(NamedTuple):
    """Progress over steps: the mean of the seeds, the lowest and the highest. None: no seed has it."""

    steps: tuple[int, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What one arm reached in one setting. ``lead`` is the method's advantage over it, paired; None for the method."""

    setting: str
    arm: str
    role: Role
    note: str
    metrics: Mapping[str, Estimate]
    lead: Mapping[str, Estimate] | None
    cost: float
    """In the claim's ``cost_name``, mean over seeds."""
    curve: Curve


@dataclass(frozen=True, slots=True, kw_only=True)
class PartResult:
    """A part of the claim with its effect, method minus ``rival``."""

    part: Part
    rival: str
    effect: Estimate
    holds: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimResult:
    """The outcome of a claim. ``holds`` is None at a scale that is not judged."""

    claim: Claim
    scale: str
    seeds: int
    arms: tuple[ArmResult, ...]
    parts: tuple[PartResult, ...]
    holds: bool | None
    reason: str
    """One sentence."""
    wall_s: float


def judge(claim: Claim, scale: str, seeds: int, runs: Iterable[Finished], *, wall_s: float) -> ClaimResult:
    """Judge the finished trials of a claim, one for each setting, arm and seed.

    Raises MetricError when a metric cannot be computed.
    """
    by_cell: dict[tuple[str, str], list[Trial]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_cell.setdefault((run.setting, run.arm), []).append(claim.trial(run))
    arms = tuple(
        _arm_result(claim, setting.name, arm.name, by_cell) for setting in claim.settings for arm in claim.arms
    )
    parts = tuple(_part_result(claim, part, arms) for part in claim.parts)
    judged = claim.scale(scale).judged
    return ClaimResult(
        claim=claim,
        scale=scale,
        seeds=seeds,
        arms=arms,
        parts=parts,
        holds=all(part.holds for part in parts) if judged else None,
        reason=_reason(claim, parts, claim.scale(scale)),
        wall_s=wall_s,
    )


def _arm_result(claim: Claim, setting: str, name: str, by_cell: Mapping[tuple[str, str], Sequence[Trial]]) -> ArmResult:
    arm = next(a for a in claim.arms if a.name == name)
    own, method = by_cell[setting, name], by_cell[setting, claim.method.name]

    def reached(metric: Metric) -> Estimate:
        return estimate([[v for v in trial.metrics[metric.name] if v is not None] for trial in own])

    def lead(metric: Metric) -> Estimate:
        both = zip(method, own, strict=True)
        return estimate([paired(ours.metrics[metric.name], theirs.metrics[metric.name]) for ours, theirs in both])

    return ArmResult(
        setting=setting,
        arm=name,
        role=arm.role,
        note=arm.note,
        metrics={metric.name: reached(metric) for metric in claim.metrics},
        lead=None if arm.role is Role.METHOD else {metric.name: lead(metric) for metric in claim.metrics},
        cost=sum(trial.cost for trial in own) / len(own),
        curve=_curve([trial.curve for trial in own]),
    )


def _curve(series: Sequence[Sequence[tuple[int, float | None]]]) -> Curve:
    by_step: dict[int, list[float]] = {}
    for one in series:
        for step, value in one:
            by_step.setdefault(step, []).extend([] if value is None else [value])
    steps = tuple(sorted(by_step))
    known = [by_step[step] for step in steps]
    return Curve(
        steps=steps,
        mean=tuple(sum(values) / len(values) if values else None for values in known),
        low=tuple(min(values, default=None) for values in known),
        high=tuple(max(values, default=None) for values in known),
    )


def _part_result(claim: Claim, part: Part, arms: Sequence[ArmResult]) -> PartResult:
    metric = claim.metric(part.metric)
    here = [arm for arm in arms if arm.setting == part.setting]
    if part.against is None:
        baselines = [arm for arm in here if arm.role is Role.BASELINE]
        strongest = min if metric.lower_is_better else max
        rival = strongest(baselines, key=lambda arm: arm.metrics[part.metric].mean)
    else:
        rival = next(arm for arm in here if arm.arm == part.against)
    assert rival.lead is not None  # the method is no rival of itself
    effect = rival.lead[part.metric]
    return PartResult(part=part, rival=rival.arm, effect=effect, holds=_lies(effect, part.side(metric), part.margin))


def _lies(effect: Estimate, direction: Direction, margin: float) -> bool:
    match direction:
        case Direction.ABOVE:
            return effect.low > 0
        case Direction.BELOW:
            return effect.high < 0
        case Direction.NOT_BELOW:
            return effect.low > -margin
        case Direction.NOT_ABOVE:
            return effect.high < margin


def _reason(claim: Claim, parts: Sequence[PartResult], scale: Scale) -> str:
    if not scale.judged:
        return "This scale is too small to judge; it shows that the machinery runs."
    broken = [part for part in parts if not part.holds]
    if not broken:
        return "Every part's interval lies where the claim says."
    first = broken[0]
    more = f" ({len(broken) - 1} more of {len(parts)} parts fail)" if len(broken) > 1 else ""
    metric = claim.metric(first.part.metric)
    mean, low, high = (number(value, metric.unit, sign="+") for value in first.effect[:3])
    effect = f"{mean} [{low}, {high}]{' points' if metric.unit == SHARE else ''}"
    where = f"{metric.name}, {first.part.setting}"
    required = first.part.required(metric)
    return f"{where}: method minus {first.rival} is {effect} and should lie {required}{more}."
