"""1,000 sessions at once, 10 turns each, on an engine that costs nothing: what the rollout path costs by itself.

There is no peer: ``ratio`` is environment steps per second over the 2,000 that are wanted. The share outside is what
neither the engine nor the environment spends. Memory is the growth of the first run's peak over what was loaded.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.models import NANO, write_model
from benchmarks.reporting import options
from benchmarks.side_by_side import Measured, Worker, WorkerFailed, alternate
from benchmarks.workload import Turns

__all__ = ["LOAD", "summarise"]

LOAD = Turns(prompts=125, members=8, turns=10, first=64, observation=64, action=16)
_WANTED_STEPS = 2000.0
_WANTED_MB = 300.0


def summarise(measured: Measured, threads: int) -> dict[str, Any]:
    """One object."""
    record: dict[str, Any] = {
        "benchmark": "overhead",
        "ratio": None,
        "reason": measured.reason,
        "wanted": 1.0,
        "threads": threads,
        "floor_s": None,
    }
    if measured.reason is not None:
        return record
    sessions = LOAD.prompts * LOAD.members
    steps_per_s = measured.median("steps_per_s")
    return record | {
        "ratio": steps_per_s / _WANTED_STEPS,
        "rounds": len(measured.rounds),
        "sessions": sessions,
        "steps_per_s": steps_per_s,
        "steps_per_cpu_s": sessions * LOAD.turns / measured.median("cpu_s"),
        "wall_s": measured.median("wall_s"),
        "cpu_s": measured.median("cpu_s"),
        "outside_share": measured.median("outside_share"),
        "grown_mb": measured.ready["grown_mb"],
        "kb_per_session": 1024 * measured.ready["grown_mb"] / sessions,
        "memory_ratio": measured.ready["grown_mb"] / _WANTED_MB,
    }


def _measure(rounds: int, threads: int) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(NANO, Path(folder) / "model")
        job = {"worker": "sessions", "model": str(model), "load": LOAD.to_dict()}
        try:
            with Worker(job, threads=threads) as worker:
                grown_mb = worker.round(round=0)["grown_mb"]  # later runs reuse what the first one got
                measured = alternate({"ours": worker}, rounds=rounds, warm_ups=0)["ours"]
        except WorkerFailed as error:
            return Measured(reason=str(error))
    return Measured(rounds=measured.rounds, ready={**measured.ready, "grown_mb": grown_mb}, reason=measured.reason)


def main() -> None:
    """Print the figures, and with ``--json`` one object."""
    chosen = options(__doc__).parse_args()
    record = summarise(_measure(chosen.rounds, chosen.threads), chosen.threads)
    if record["reason"] is not None:
        print(f"overhead: not measured: {record['reason']}")
    else:
        print(
            f"overhead: {record['sessions']} sessions x {LOAD.turns} turns, {record['rounds']} rounds, "
            f"{record['threads']} threads\n"
            f"environment steps/s     {record['steps_per_s']:8.0f}   wanted more than {_WANTED_STEPS:.0f}; "
            f"{record['steps_per_cpu_s']:.0f} per CPU second\n"
            f"outside engine and env  {100 * record['outside_share']:7.1f} %\n"
            f"memory                  {record['grown_mb']:8.0f} MB, {record['kb_per_session']:.0f} kB a session, "
            f"wanted less than {_WANTED_MB:.0f} MB\n"
        )
    if chosen.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
