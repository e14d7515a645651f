"""Running a claim from its name to its verdict, in a folder that can be gone back to."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from askesis.claims.claim import Claim, Plan
from askesis.claims.code import code_digest
from askesis.claims.drawing import draw
from askesis.claims.judging import ClaimResult, judge
from askesis.claims.records import store_result, to_record
from askesis.claims.running import FailedRun, Finished, make_runs
from askesis.errors import RecipeError
from askesis.training.preflight import versions
from askesis.training.rundir import write_json

__all__ = ["MIN_SEEDS", "check", "claim_folder"]

MIN_SEEDS = 3
"""Fewer say nothing about another seed."""


def claim_folder(study: Claim, scale: str) -> Path:
    """``runs/claims/NAME-SCALE``: its trials, ``store.db``, ``result.json`` and ``result.svg``."""
    return Path("runs") / "claims" / f"{study.name}-{scale}"


def check(
    study: Claim,
    scale_name: str,
    *,
    seeds: int | None = None,
    folder: Path | None = None,
    notify: Callable[[Plan, Finished | FailedRun], None] = lambda plan, outcome: None,
) -> ClaimResult:
    """Make the trials of a claim that are missing, judge them all, and write the outcome into the claim's folder.

    Args:
        study: the claim.
        scale_name: one of its scales.
        seeds: how many, from 0; None is the scale's own number.
        folder: where everything goes; :func:`claim_folder` by default.
        notify: told of each trial when it has ended.

    Raises:
        RecipeError: too few seeds to judge, unequal budgets, no such scale.
        AskesisError: a trial failed.
    """
    scale = study.scale(scale_name)
    num_seeds = scale.seeds if seeds is None else seeds
    if num_seeds < (MIN_SEEDS if scale.judged else 1):
        raise RecipeError(
            "these are too few seeds",
            where=f"claim {study.name}, scale {scale_name}",
            got=num_seeds,
            expected=f"at least {MIN_SEEDS if scale.judged else 1}",
        )
    place = folder or claim_folder(study, scale_name)
    plans = study.plans(scale, seeds=num_seeds, folder=place)
    place.mkdir(parents=True, exist_ok=True)
    watch = _Watch(place / "clock.json")

    def told(plan: Plan, outcome: Finished | FailedRun) -> None:
        watch.save()
        notify(plan, outcome)

    runs = make_runs(plans, workers=scale.workers, notify=told)
    result = judge(study, scale_name, num_seeds, runs, wall_s=watch.save())
    found = versions() | {"code": code_digest()[:12]}
    store_result(result, place / "store.db", found)
    record = to_record(result, found)
    write_json(place / "result.json", record)
    draw(record, place / "result.svg")
    return result


class _Watch:
    """Seconds that a claim has taken, over all the calls that it took."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = float(json.loads(path.read_text())["wall_s"]) if path.exists() else 0.0
        self._started = time.monotonic()

    def save(self) -> float:
        """Write the time so far, and return it."""
        wall_s = self._before + time.monotonic() - self._started
        write_json(self._path, {"wall_s": wall_s})
        return wall_s
