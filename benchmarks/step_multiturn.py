"""One update on finished conversations: 8 turns of 64 observation and 16 sampled tokens, 8 prompts x 8 members.

Against one-sample-per-call training (each call a sequence with its whole context) and TRL's multi-turn path (each
conversation a sequence). The training part only, on every side: traces and sequences are built before the clock starts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import floor
from benchmarks.models import NANO, write_model
from benchmarks.reporting import compare, emit, options
from benchmarks.side_by_side import Side, measure
from benchmarks.steps import measured_rate
from benchmarks.workload import Turns

__all__ = ["LOAD", "sides"]

LOAD = Turns(prompts=8, members=8, turns=8, first=64, observation=64, action=16)
OUR_MICRO_BATCH = 2048
"""Distinct tokens: no slower than larger ones that were tried, with less memory, see NOTES.md."""
PER_CALL_MICRO_BATCH = 8192
"""Tokens: the fastest of those tried or level with it, see NOTES.md."""
TRL_BATCH = 16
"""Sequences: the fastest of those tried or level with it, see NOTES.md."""


def sides(model: Path) -> dict[str, Side]:
    """Ours packed, ours as one sequence per branch, and the peers."""
    common = {"model": str(model), "load": LOAD.to_dict(), "vocabulary": NANO.vocabulary}
    own = {**common, "worker": "learner", "micro_batch_tokens": OUR_MICRO_BATCH}
    return {
        "ours": ({**own, "packed": True}, None),
        "ours, packed=false": ({**own, "packed": False}, None),
        "one sample per call": ({**common, "worker": "per_call", "micro_batch_tokens": PER_CALL_MICRO_BATCH}, None),
        "TRL": ({**common, "worker": "trl_turns", "batch": TRL_BATCH}, "trl"),
    }


def main() -> None:
    """Print a table, and with ``--json`` one object."""
    chosen = options(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(NANO, Path(folder) / "model")
        rate = measured_rate(model, chosen.threads)
        measured = measure(sides(model), rounds=chosen.rounds, threads=chosen.threads)
    record = compare(
        "step_multiturn",
        measured,
        against="one sample per call",
        wanted=5.0,
        threads=chosen.threads,
        flops=floor.turns_update(NANO, LOAD),
        rate=rate,
    )
    print(f"tokens: {LOAD.distinct} distinct, {LOAD.per_sequence} by sequence, {LOAD.per_call} by call")
    emit(record, as_json=chosen.json)


if __name__ == "__main__":
    main()
