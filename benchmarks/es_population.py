"""Seconds and memory of a step of evolution with nano's shape: members one after the other, or side by side.

Sixteen members each answer sixteen prompts. ``ratio`` is one after the other over all side by side, wall time.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.models import NANO, write_model
from benchmarks.reporting import options
from benchmarks.side_by_side import Side, measure, table
from benchmarks.workload import Grpo

__all__ = ["COUNTS", "LOAD", "judge", "sides"]

LOAD = Grpo(prompts=16, group=1, prompt_tokens=16, new_tokens=48)
COUNTS = (1, 4, 16)
_MEMBERS = 16


def sides(model: Path) -> dict[str, Side]:
    """The same population by batches of one, some and all members."""
    job: dict[str, Any] = {"worker": "evolution", "model": str(model), "load": LOAD.to_dict(), "members": _MEMBERS}
    return {f"{count} at a time": ({**job, "side_by_side": count}, None) for count in COUNTS}


def judge(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The record: what each side took, and how much faster the largest batch is; None if one was not measured.

    Args:
        sides: summaries by name, see :meth:`benchmarks.side_by_side.Measured.summary`.
    """
    alone, together = (sides[f"{count} at a time"] for count in (COUNTS[0], COUNTS[-1]))
    measured = "wall_s" in alone and "wall_s" in together
    return {
        "benchmark": "es_population",
        "ratio": alone["wall_s"] / together["wall_s"] if measured else None,
        "memory_ratio": together["peak_mb"] / alone["peak_mb"] if measured else None,
        "reason": alone.get("reason") or together.get("reason"),
        "sides": dict(sides),
    }


def main() -> None:
    """Print a table, and with ``--json`` one object."""
    chosen = options(__doc__, rounds=7).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(sides(write_model(NANO, Path(folder) / "model")), rounds=chosen.rounds, threads=chosen.threads)
    record = judge({name: side.summary() for name, side in found.items()})
    rows = [
        (name, side["reason"])
        if "reason" in side
        else (name, f"{side['wall_s']:.2f}", f"{side['cpu_s']:.2f}", f"{side['peak_mb']:.0f}", f"{side['own_mb']:.0f}")
        for name, side in record["sides"].items()
    ]
    print(table(("members", "wall s", "CPU s", "peak MB", "own MB"), rows))
    if chosen.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
