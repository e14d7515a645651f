"""Cost of an update against group size, prompt length and turns: packed, and one sequence per branch.

Packed cost should grow with distinct tokens. ``ratio`` says whether it does: seconds per distinct token at a sweep's
smallest point over those at its largest, for the sweep where that is worst; 1 is in step with the tokens, less is
worse. A token deeper in a conversation attends to more of them, so some loss is due. The plot goes to docs/scaling.svg.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.models import NANO, write_model
from benchmarks.reporting import options
from benchmarks.side_by_side import Worker, WorkerFailed, alternate
from benchmarks.workload import Turns

__all__ = ["SWEEPS", "summarise"]

_BASE = Turns(prompts=4, members=16, turns=1, first=256, observation=64, action=32)
SWEEPS: dict[str, list[tuple[int, Turns]]] = {
    "group size": [(n, replace(_BASE, members=n)) for n in (2, 4, 8, 16, 32)],
    "prompt length": [(n, replace(_BASE, first=n)) for n in (64, 128, 256, 512, 1024)],
    "turns": [(n, replace(_BASE, prompts=2, members=8, turns=n, first=64, action=16)) for n in (1, 2, 4, 8)],
}
_SIDES = {"packed": True, "one sequence per branch": False}

Point = Mapping[str, Any]


def _sweep(workers: Mapping[str, Worker], points: Sequence[tuple[int, Turns]], rounds: int) -> list[Point]:
    rows: list[Point] = []
    for value, load in points:
        measured = alternate(workers, rounds=rounds, request={"load": load.to_dict()})
        for name, side in measured.items():
            if side.reason is not None:
                raise WorkerFailed(f"{name}: {side.reason}")
        rows.append(
            {
                "value": value,
                "distinct": load.distinct,
                "by_sequence": load.per_sequence,
                **{name: side.median("wall_s") for name, side in measured.items()},
                **{f"{name}, CPU": side.median("cpu_s") for name, side in measured.items()},
            }
        )
    return rows


def summarise(sweeps: Mapping[str, Sequence[Point]], rounds: int, threads: int) -> dict[str, Any]:
    """One object with all points."""

    def growth(points: Sequence[Point], name: str) -> float:
        first, last = points[0], points[-1]
        return float((first[name] / first["distinct"]) / (last[name] / last["distinct"]))

    return {
        "benchmark": "scaling",
        "ratio": min(growth(points, "packed") for points in sweeps.values()),
        "cpu_ratio": min(growth(points, "packed, CPU") for points in sweeps.values()),
        "reason": None,
        "rounds": rounds,
        "threads": threads,
        "floor_s": None,
        "sweeps": sweeps,
    }


def _draw(sweeps: Mapping[str, Sequence[Point]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "askesis"
    from matplotlib import pyplot

    figure, places = pyplot.subplots(1, len(sweeps), figsize=(10, 3), layout="constrained")
    for axes, (title, points) in zip(places, sweeps.items(), strict=True):
        at = [p["value"] for p in points]
        for name in _SIDES:
            axes.plot(at, [p[name] for p in points], marker="o", label=name)
        last = points[-1]
        straight = [last["packed"] * p["distinct"] / last["distinct"] for p in points]
        axes.plot(at, straight, color="grey", linestyle=":", label="in step with distinct tokens")
        axes.set(title=title, xlabel=title, ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
    places[0].set_ylabel("seconds per update")
    places[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Print the points, draw them, and with ``--json`` print one object."""
    parser = options(__doc__)
    parser.add_argument("--picture", type=Path, default=Path("docs/scaling.svg"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(NANO, Path(folder) / "model")
        workers: dict[str, Worker] = {}
        try:
            for name, packed in _SIDES.items():
                job = {"worker": "learner", "model": str(model), "packed": packed, "micro_batch_tokens": 8192}
                workers[name] = Worker(job, threads=chosen.threads)
            sweeps = {}
            for title, points in SWEEPS.items():
                sweeps[title] = _sweep(workers, points, chosen.rounds)
                for point in sweeps[title]:
                    print(
                        f"{title} {point['value']:5d}: {point['distinct']:6d} distinct tokens of "
                        f"{point['by_sequence']:6d}, packed {point['packed']:.3f} s, "
                        f"one sequence per branch {point['one sequence per branch']:.3f} s",
                        flush=True,
                    )
        finally:
            for worker in workers.values():
                worker.close()
    record = summarise(sweeps, chosen.rounds, chosen.threads)
    _draw(sweeps, chosen.picture)
    print(f"per distinct token, smallest over largest point, worst sweep: {record['ratio']:.2f}")
    if chosen.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
