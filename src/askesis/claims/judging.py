"""From runs to a verdict: what each arm reached, what the method has over it, and whether the claim's parts hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from askesis.claims.reading import FinishedRun
from askesis.claims.statistics import Estimate, estimate, paired
from askesis.claims.study import Direction, Metric, Part, Role, Scale, Study

__all__ = ["ArmResult", "ClaimResult", "Curve", "PartResult", "judge"]

CURVE = "accuracy"
"""The metric of the training steps that is drawn."""


class Curve(NamedTuple):
    """A training metric over steps: the mean of the seeds, the lowest and the highest. None: no seed has it."""

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
    num_trained: float
    """Tokens sampled for training, mean over seeds."""
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
    """The outcome of a study. ``holds`` is None at a scale that is not judged."""

    study: Study
    scale: str
    seeds: int
    arms: tuple[ArmResult, ...]
    parts: tuple[PartResult, ...]
    holds: bool | None
    reason: str
    """One sentence."""
    wall_s: float


def judge(study: Study, scale: str, seeds: int, runs: Iterable[FinishedRun], *, wall_s: float) -> ClaimResult:
    """Judge the finished runs of a study, one for each setting, arm and seed.

    Raises MetricError when a metric cannot be computed.
    """
    by_cell: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in sorted(runs, key=lambda run: run.seed):
        by_cell.setdefault((run.setting, run.arm), []).append(run)
    values = {
        (cell, metric.name): [metric.read(run) for run in found]
        for cell, found in by_cell.items()
        for metric in study.metrics
    }
    arms = tuple(
        _arm_result(study, setting.name, arm.name, by_cell[setting.name, arm.name], values)
        for setting in study.settings
        for arm in study.arms
    )
    parts = tuple(_part_result(study, part, arms) for part in study.parts)
    judged = study.scale(scale).judged
    return ClaimResult(
        study=study,
        scale=scale,
        seeds=seeds,
        arms=arms,
        parts=parts,
        holds=all(part.holds for part in parts) if judged else None,
        reason=_reason(parts, study.scale(scale)),
        wall_s=wall_s,
    )


_Values = Mapping[tuple[tuple[str, str], str], Sequence[Sequence[float | None]]]


def _arm_result(study: Study, setting: str, name: str, runs: Sequence[FinishedRun], values: _Values) -> ArmResult:
    arm = next(a for a in study.arms if a.name == name)
    own, method = (setting, name), (setting, study.method.name)

    def reached(metric: Metric) -> Estimate:
        return estimate([[v for v in tasks if v is not None] for tasks in values[own, metric.name]])

    def lead(metric: Metric) -> Estimate:
        both = zip(values[method, metric.name], values[own, metric.name], strict=True)
        return estimate([paired(ours, theirs) for ours, theirs in both])

    return ArmResult(
        setting=setting,
        arm=name,
        role=arm.role,
        note=arm.note,
        metrics={metric.name: reached(metric) for metric in study.metrics},
        lead=None if arm.role is Role.METHOD else {metric.name: lead(metric) for metric in study.metrics},
        num_trained=sum(run.num_trained for run in runs) / len(runs),
        curve=_curve([run.series[CURVE] for run in runs]),
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


def _part_result(study: Study, part: Part, arms: Sequence[ArmResult]) -> PartResult:
    here = [arm for arm in arms if arm.setting == part.setting]
    if part.against is None:
        baselines = [arm for arm in here if arm.role is Role.BASELINE]
        rival = max(baselines, key=lambda arm: arm.metrics[part.metric].mean)
    else:
        rival = next(arm for arm in here if arm.arm == part.against)
    assert rival.lead is not None  # the method is no rival of itself
    effect = rival.lead[part.metric]
    return PartResult(part=part, rival=rival.arm, effect=effect, holds=_lies(effect, part))


def _lies(effect: Estimate, part: Part) -> bool:
    match part.direction:
        case Direction.ABOVE:
            return effect.low > 0
        case Direction.BELOW:
            return effect.high < 0
        case Direction.NOT_BELOW:
            return effect.low > -part.margin
        case Direction.NOT_ABOVE:
            return effect.high < part.margin


def _reason(parts: Sequence[PartResult], scale: Scale) -> str:
    if not scale.judged:
        return "This scale is too small to judge; it shows that the machinery runs."
    broken = [part for part in parts if not part.holds]
    if not broken:
        return "Every part's interval lies where the claim says."
    first = broken[0]
    more = f" ({len(broken) - 1} more of {len(parts)} parts fail)" if len(broken) > 1 else ""
    mean, low, high = (100 * value for value in first.effect[:3])
    effect = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}] points"
    where = f"{first.part.metric}, {first.part.setting}"
    return f"{where}: method minus {first.rival} is {effect} and should lie {first.part.required}{more}."
