"""A GRPO step of ours against TRL's, for two lengths of prompt: shared by ``step_short`` and ``step_long``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks import floor
from benchmarks.models import NANO, write_model
from benchmarks.reporting import compare, emit, options
from benchmarks.side_by_side import Measured, Side, Worker, measure
from benchmarks.workload import Grpo

__all__ = ["LONG", "SHORT", "measured_rate", "run", "sides"]

SHORT = Grpo(prompts=8, group=16, prompt_tokens=8, new_tokens=32)
LONG = Grpo(prompts=8, group=16, prompt_tokens=512, new_tokens=32)

TRL_BATCH = {SHORT: 64, LONG: 8}
"""Sequences that TRL passes through the model at a time: the fastest of those tried or level with it, see NOTES.md."""
OUR_MICRO_BATCH = 2048
"""Distinct tokens: no slower than larger ones that were tried, with less memory, see NOTES.md."""


def sides(model: Path, load: Grpo) -> dict[str, Side]:
    """Ours (engine and learner), ours with all that a run has around it, and TRL."""
    own = {"worker": "step", "model": str(model), "load": load.to_dict(), "micro_batch_tokens": OUR_MICRO_BATCH}
    peer = {"worker": "trl", "model": str(model), "load": load.to_dict(), "batch": TRL_BATCH[load]}
    return {
        "ours": ({**own, "whole": False}, None),
        "ours, whole run": ({**own, "whole": True}, None),
        "TRL": (peer, "trl"),
    }


def measured_rate(model: Path, threads: int, rows: int = 1024, hidden: int = NANO.hidden) -> float:
    """Operations per second of [rows, hidden] x [hidden, 3 x hidden] with as many threads as the sides have."""
    with Worker({"worker": "rate", "model": str(model)}, threads=threads) as worker:
        return float(worker.round(matmul=[rows, hidden, 3 * hidden])["rate"])


def run(name: str, load: Grpo, wanted: float, description: str | None) -> None:
    """Measure, print."""
    chosen = options(description).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(NANO, Path(folder) / "model")
        rate = measured_rate(model, chosen.threads)
        measured: dict[str, Measured] = measure(sides(model, load), rounds=chosen.rounds, threads=chosen.threads)
    record: dict[str, Any] = compare(
        name,
        measured,
        against="TRL",
        wanted=wanted,
        threads=chosen.threads,
        flops=floor.grpo_step(NANO, load),
        rate=rate,
    )
    emit(record, as_json=chosen.json)
