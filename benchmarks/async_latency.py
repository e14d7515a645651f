"""Asynchronous against synchronous training where environments are slow: steps per second, and what both learn.

The built-in policy learns sums of decimals. Each session waits once, really, for a log-normal time (sigma 1) whose mean
is four times what the policy computes for the answers of a step, measured first. Both sides make the same number of
steps; their final models answer the same held-out tasks. Leaves with 1 when the asynchronous side is not 2.5 times as
fast, or its reward is worse than the interval of the difference allows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from askesis.claims.statistics import Estimate, estimate, paired
from askesis.clock import SystemClock
from askesis.environments.latency import with_latency
from askesis.recipe import load_recipe
from askesis.store import Store
from askesis.training.evaluating import held_out_groups
from askesis.training.loop import train
from askesis.training.preflight import open_world, prepare
from askesis.training.progress import PlainProgress

__all__ = ["Run", "compare", "play"]

WANTED = 2.5
SIGMA = 1.0
TIMES_MODEL = 4.0
PILOT_SEED = 900
COMMON = [
    "environment.family=decimal_chain_sum",
    'environment.instruction=""',
    "algorithm.options.kl_beta=0.0",
    "training.lr=1.5e-4",
    "training.warmup_steps=3",
    "training.checkpoint_every=0",
    "rollout.groups_per_step=8",
    "rollout.group_size=8",
    "evaluation.num_tasks=0",
]
OVERLAPPING = ["asynchronous.enabled=true", "asynchronous.admission=corrected"]


class Run(NamedTuple):
    """What one training came to."""

    steps_per_s: float
    sampling_s: float
    """Median time of a step's sampling, waiting included."""
    solved: list[float]
    """1 for each held-out task that the final model solved."""
    staleness: float
    corrected: float
    """Share of the groups that were older than the bound."""


def play(overrides: Sequence[str], *, mean_s: float, num_tasks: int, policy: str = "nano") -> Run:
    """Train once, in this process and in a folder that is removed, and evaluate the result."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        resolved = load_recipe(None, [*COMMON, f'policy.name="{policy}"', f'run.dir="{place}"', *overrides])
        world = open_world(resolved.recipe)
        slow = with_latency(world, mean_s=mean_s, sigma=SIGMA, seed=resolved.recipe.run.seed) if mean_s else world
        prepared = prepare(resolved)
        with Path(os.devnull).open("w") as sink, PlainProgress(sink, clock=SystemClock()) as progress:
            result = train(resolved, prepared.run, slow, progress)
        with Store.open(place / "store.db", read_only=True) as store:
            metrics = {
                name: [value for _, value in series if value is not None]
                for name, series in store.metrics(result.run).items()
            }
        solved: list[float] = []
        if num_tasks:
            final = [f'policy.name="{place / "model"}"', f"evaluation.num_tasks={num_tasks}"]
            groups = asyncio.run(held_out_groups(load_recipe(None, [*COMMON, *final]).recipe, world))
            solved = [float(bool(group.members[0].verdict.completed)) for group in groups]
    return Run(
        steps_per_s=len(metrics["step_seconds"]) / sum(metrics["step_seconds"]),
        sampling_s=statistics.median(metrics["sampling_seconds"]),
        solved=solved,
        staleness=statistics.mean(metrics.get("staleness_mean", [0.0])),
        corrected=statistics.mean(metrics.get("corrected_share", [0.0])),
    )


def compare(sides: dict[str, list[Run]], *, mean_s: float) -> dict[str, Any]:
    """One object: rates, their ratio, and the final rewards with 95 % intervals over seeds and tasks."""
    slow, fast = sides["synchronous"], sides["asynchronous"]
    ratios = [theirs.steps_per_s / own.steps_per_s for own, theirs in zip(slow, fast, strict=True)]
    gaps = estimate([paired(b.solved, a.solved) for a, b in zip(slow, fast, strict=True)])
    ratio = statistics.median(ratios)
    return {
        "benchmark": "async_latency",
        "ratio": ratio,
        "wanted": WANTED,
        "ratios": ratios,
        "mean_latency_s": mean_s,
        "steps_per_s": {name: [run.steps_per_s for run in runs] for name, runs in sides.items()},
        "reward": {name: _plain(estimate([run.solved for run in runs])) for name, runs in sides.items()},
        "reward_difference": _plain(gaps),
        "staleness": statistics.mean(run.staleness for run in fast),
        "corrected_share": statistics.mean(run.corrected for run in fast),
        "holds": ratio >= WANTED and gaps.high >= 0,
    }


def _plain(found: Estimate) -> dict[str, Any]:
    return {"mean": found.mean, "ci": [found.low, found.high], "per_seed": list(found.per_seed)}


def _show(record: dict[str, Any]) -> None:
    for name, reward in record["reward"].items():
        rates = ", ".join(f"{rate:.2f}" for rate in record["steps_per_s"][name])
        low, high = (100 * bound for bound in reward["ci"])
        print(f"{name:12}  {rates} steps/s  final reward {100 * reward['mean']:.1f} % [{low:.1f}, {high:.1f}]")
    gap = record["reward_difference"]
    low, high = (100 * bound for bound in gap["ci"])
    print(f"difference of rewards {100 * gap['mean']:+.1f} points [{low:+.1f}, {high:+.1f}]")
    print(f"staleness {record['staleness']:.1f} versions; {100 * record['corrected_share']:.0f} % of groups corrected")
    print(f"ratio {record['ratio']:.2f}, wanted at least {WANTED}; {'holds' if record['holds'] else 'FAILS'}")


def main() -> int:
    """Print both sides, and with ``--json`` one object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--tasks", type=int, default=300, help="held-out tasks for the final models")
    parser.add_argument("overrides", nargs="*", help="recipe keys of the asynchronous side, such as section.key=value")
    chosen = parser.parse_args()
    pilot = play(["training.steps=6", f"run.seed={PILOT_SEED}"], mean_s=0.0, num_tasks=0)
    mean_s = TIMES_MODEL * pilot.sampling_s
    print(
        f"the policy computes {pilot.sampling_s:.2f} s for a step; a session waits {mean_s:.2f} s on average",
        flush=True,
    )
    sides: dict[str, list[Run]] = {"synchronous": [], "asynchronous": []}
    for seed in range(chosen.first_seed, chosen.first_seed + chosen.seeds):
        both = [f"training.steps={chosen.steps}", f"run.seed={seed}"]
        for name, more in (("synchronous", []), ("asynchronous", [*OVERLAPPING, *chosen.overrides])):
            run = play([*both, *more], mean_s=mean_s, num_tasks=chosen.tasks)
            sides[name].append(run)
            print(f"seed {seed}, {name}: {run.steps_per_s:.2f} steps/s", flush=True)
    record = compare(sides, mean_s=mean_s)
    _show(record)
    if chosen.json:
        print(json.dumps(record), flush=True)
    return 0 if record["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
