"""Peak resident memory of the long step: ours against TRL, each in a fresh process with nothing beside it.

``own MB`` is the peak above what the process held once everything was loaded: the step's own. ``ratio`` is TRL's own
over ours (more is better), ``memory_ratio`` ours over TRL's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import floor
from benchmarks.models import NANO, write_model
from benchmarks.reporting import compare, emit, options
from benchmarks.side_by_side import Measured, Side, measure
from benchmarks.steps import LONG, sides

__all__ = ["by_memory"]

_SMALL_BATCH = 4


def main() -> None:
    """Print a table, and with ``--json`` one object."""
    chosen = options(__doc__, rounds=2).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        every: dict[str, Side] = sides(write_model(NANO, Path(folder) / "model"), LONG)
        job, peer = every["TRL"]
        every[f"TRL, batch {_SMALL_BATCH}"] = ({**job, "batch": _SMALL_BATCH}, peer)
        measured: dict[str, Measured] = {}
        for name, side in every.items():
            measured |= measure({name: side}, rounds=chosen.rounds, threads=chosen.threads)
    record = compare(
        "memory",
        measured,
        against="TRL",
        wanted=3.0,
        threads=chosen.threads,
        flops=floor.grpo_step(NANO, LONG),
        rate=None,
    )
    emit(record | by_memory(record), as_json=chosen.json)


def by_memory(record: Mapping[str, Any]) -> dict[str, Any]:
    """The ratios of a comparison, of own memory instead of seconds: the sides were not timed side by side."""
    own = {name: side.get("own_mb") for name, side in record["sides"].items()}
    ours = own.pop("ours")
    ratios = {name: mb / ours if mb is not None and ours else None for name, mb in own.items()}
    return {"ratio": ratios["TRL"], "ratios": ratios, "cpu_ratio": None}


if __name__ == "__main__":
    main()
