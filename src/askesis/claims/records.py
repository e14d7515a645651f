"""A claim's outcome as JSON, as the closing line of the command, and in a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from askesis.claims.claim import Claim
from askesis.claims.judging import ArmResult, ClaimResult, PartResult
from askesis.claims.statistics import Estimate
from askesis.store import RunRecord, Store
from askesis.trace.types import canonical_json

__all__ = ["FORMAT_VERSION", "closing_line", "store_result", "study_record", "to_record"]

FORMAT_VERSION = 3


def closing_line(result: ClaimResult) -> dict[str, Any]:
    """What ``askesis claim --json`` ends with: the headline's effect, and what every arm reached."""
    headline = result.parts[0].effect
    method = result.claim.method.name

    def reached(name: str) -> dict[str, Any]:
        cells = [arm for arm in result.arms if arm.arm == name]
        shown = {c.setting: {m: [_round(e.mean), *_interval(e)] for m, e in c.metrics.items()} for c in cells}
        return {"role": cells[0].role.value, "settings": shown}

    return {
        "claim": result.claim.name,
        "holds": result.holds,
        "scale": result.scale,
        "seeds": result.seeds,
        "method": {"name": method, **reached(method)},
        "baselines": {arm.name: reached(arm.name) for arm in result.claim.arms if arm.name != method},
        "effect": _round(headline.mean),
        "ci": _interval(headline),
        "wall_s": round(result.wall_s, 1),
    }


def to_record(result: ClaimResult, versions: Mapping[str, str]) -> dict[str, Any]:
    """The whole outcome, JSON-ready: all that a page or a picture shows."""
    return {
        "format_version": FORMAT_VERSION,
        "claim": result.claim.name,
        **study_record(result.claim),
        "scale": result.scale,
        "overrides": dict(result.claim.scale(result.scale).overrides),
        "seeds": result.seeds,
        "holds": result.holds,
        "reason": result.reason,
        "parts": [_part(result.claim, part) for part in result.parts],
        "arms": [_arm(arm) for arm in result.arms],
        "wall_s": round(result.wall_s, 1),
        "versions": dict(versions),
    }


def study_record(study: Claim) -> dict[str, Any]:
    """What a study or an experiment says of itself, JSON-ready."""
    return {
        "title": study.title,
        "paper": study.paper,
        "statement": study.statement,
        "measured": study.measured,
        "recipe": dict(study.constants),
        "method": study.method.name,
        "primary": study.metrics[0].name,
        "metrics": [  # a list: files sort the keys of objects
            {"name": m.name, "note": m.note, "unit": m.unit, "lower_is_better": m.lower_is_better}
            for m in study.metrics
        ],
        "cost_name": study.cost_name,
        "curve": None if study.curve is None else asdict(study.curve),
        "settings": {setting.name: dict(setting.overrides) for setting in study.settings},
        "algorithms": {arm.name: dict(arm.overrides) for arm in study.arms},
    }


def store_result(result: ClaimResult, path: Path, versions: Mapping[str, str]) -> str:
    """Write the outcome into the store at ``path`` and return the name of its record.

    Each seed is a step of the metrics ``SETTING/ARM/METRIC``; at step 0 are ``effect``, ``ci_low``, ``ci_high`` of the
    headline and ``holds``.
    """
    study = {**study_record(result.claim), "scale": result.scale, "seeds": result.seeds}
    digest = hashlib.sha256(canonical_json(study)).hexdigest()
    name = f"claim-{result.claim.name}-{result.scale}-{digest[:10]}"
    with Store.open(path) as store:
        store.add_run(RunRecord(run_id=name, recipe_hash=digest, recipe=study, seed=0, versions=versions))
        for seed in range(result.seeds):
            store.log_metrics(name, seed, dict(_of_seed(result, seed)))
        headline = result.parts[0].effect
        holds = None if result.holds is None else float(result.holds)
        values = {"effect": headline.mean, "ci_low": headline.low, "ci_high": headline.high, "holds": holds}
        store.log_metrics(name, 0, values)
        store.set_run_status(name, "finished")
    return name


def _of_seed(result: ClaimResult, seed: int) -> Iterator[tuple[str, float]]:
    for arm in result.arms:
        for metric, reached in arm.metrics.items():
            yield f"{arm.setting}/{arm.arm}/{metric}", reached.per_seed[seed]


def _arm(arm: ArmResult) -> dict[str, Any]:
    return {
        "setting": arm.setting,
        "arm": arm.arm,
        "role": arm.role.value,
        "note": arm.note,
        "metrics": {name: _estimate(value) for name, value in arm.metrics.items()},
        "lead": None if arm.lead is None else {name: _estimate(value) for name, value in arm.lead.items()},
        "cost": _round(arm.cost),
        "curve": {
            "steps": list(arm.curve.steps),
            **{
                name: [None if value is None else _round(value) for value in getattr(arm.curve, name)]
                for name in ("mean", "low", "high")
            },
        },
    }


def _part(claim: Claim, result: PartResult) -> dict[str, Any]:
    part = result.part
    return {
        "statement": part.statement,
        "metric": part.metric,
        "setting": part.setting,
        "required": part.required(claim.metric(part.metric)),
        "rival": result.rival,
        "effect": _estimate(result.effect),
        "holds": result.holds,
    }


def _estimate(value: Estimate) -> dict[str, Any]:
    return {"mean": _round(value.mean), "ci": _interval(value), "per_seed": [_round(v) for v in value.per_seed]}


def _interval(value: Estimate) -> list[float]:
    return [_round(value.low), _round(value.high)]


def _round(value: float) -> float:
    return float(f"{value:.6g}")
