"""Peak resident memory of a step of evolution, against sampling alone, our gradient learner and TRL's GRPO.

Every side works through the same batch of answers with the 25 M model, each in a fresh process. ``own MB`` is the peak
above what the process held before the first round: its libraries and the weights. ``memory_ratio`` compares whole
peaks, evolution over sampling (wanted: at most 1.05); ``ratios`` has each peer's own memory over evolution's.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.models import SMALL, write_model
from benchmarks.reporting import options
from benchmarks.side_by_side import Measured, Side, measure, table
from benchmarks.workload import Grpo

__all__ = ["LOAD", "WANTED", "judge", "sides"]

LOAD = Grpo(prompts=8, group=4, prompt_tokens=64, new_tokens=32)
WANTED = 1.05
_MEMBERS = 4


def sides(model: Path) -> dict[str, Side]:
    """The same answers by everybody; evolution samples them once for each member."""
    common: dict[str, Any] = {"model": str(model), "load": LOAD.to_dict()}
    return {
        "sampling": ({**common, "worker": "evolution", "members": 0}, None),
        "evolution": ({**common, "worker": "evolution", "members": _MEMBERS}, None),
        "gradient": ({**common, "worker": "step", "whole": False, "micro_batch_tokens": 2048}, None),
        "TRL": ({**common, "worker": "trl", "batch": 8}, "trl"),
    }


def judge(sides: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The record: what each side took, and the ratios; None where a side could not be measured.

    Args:
        sides: summaries by name, see :meth:`benchmarks.side_by_side.Measured.summary`.
    """
    mine, base = sides["evolution"], sides["sampling"]
    ratio = mine["peak_mb"] / base["peak_mb"] if "peak_mb" in mine and "peak_mb" in base else None
    own = {name: side.get("own_mb") for name, side in sides.items() if name != "evolution"}
    step = mine.get("own_mb")
    return {
        "benchmark": "es_memory",
        "memory_ratio": ratio,
        "wanted": WANTED,
        "reason": mine.get("reason") or base.get("reason"),
        "ratios": {name: mb / step if mb is not None and step else None for name, mb in own.items()},
        "sides": dict(sides),
    }


def main() -> None:
    """Print a table, and with ``--json`` one object."""
    chosen = options(__doc__, rounds=2).parse_args()
    measured: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, side in sides(write_model(SMALL, Path(folder) / "model")).items():
            measured |= measure({name: side}, rounds=chosen.rounds, threads=chosen.threads)
    record = judge({name: side.summary() for name, side in measured.items()})
    rows = [
        (name, side["reason"]) if "reason" in side else (name, f"{side['peak_mb']:.0f}", f"{side['own_mb']:.0f}")
        for name, side in record["sides"].items()
    ]
    print(table(("side", "peak MB", "own MB"), rows))
    said = record["reason"] if record["memory_ratio"] is None else f"{record['memory_ratio']:.3f}"
    print(f"evolution over sampling: {said} (wanted: at most {WANTED})")
    if chosen.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
