"""Sampling: the embedded engine against ``generate`` of transformers and vLLM on the CPU.

Prompts of 32 tokens, 16 answers to each (one to batch 1), lengths fixed, temperature 1. Prompts are new in every round.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import floor
from benchmarks.models import SHAPES, Shape, write_model
from benchmarks.peers import PeerMissing
from benchmarks.reporting import compare, emit, options
from benchmarks.side_by_side import Measured, Worker, WorkerFailed, alternate
from benchmarks.steps import measured_rate
from benchmarks.workload import Grpo

__all__ = ["LOADS", "summarise"]

_NEW_TOKENS = {"nano": 64, "25m": 32}
LOADS = {
    1: (1, 1),
    32: (2, 16),
    256: (16, 16),
}
"""Batch size: prompts, answers to each."""
_WANTED = {1: 1.0, 32: 2.0, 256: 2.0}
_PEERS = ("generate", "vLLM")
_SIDES = {"ours": ("sampler", None), "generate": ("generate", None), "vLLM": ("vllm", "vllm")}


def _cell(name: str, measured: Mapping[str, Measured], shape: Shape, load: Grpo, rate: float, threads: int) -> Any:
    batch = load.prompts * load.group
    return {
        "model": shape.name,
        "batch": batch,
        **compare(
            name,
            measured,
            against=_slowest(measured),
            wanted=_WANTED[batch],
            threads=threads,
            flops=floor.sampling(shape, load),
            rate=rate,
        ),
    }


def _slowest(measured: Mapping[str, Measured]) -> str:
    """The peer to be compared with: the one that could not be measured, else the faster one."""
    for name in _PEERS:
        if measured[name].reason is not None:
            return name
    return min(_PEERS, key=lambda name: measured[name].median("wall_s"))


def _model(shape: Shape, batches: Sequence[int], folder: Path, rounds: int, threads: int) -> list[dict[str, Any]]:
    """All batches of one model; the workers stay, so that vLLM is loaded once."""
    model = write_model(shape, folder / shape.name)
    workers: dict[str, Worker] = {}
    failed: dict[str, Measured] = {}
    cells = []
    try:
        for name, (kind, peer) in _SIDES.items():
            try:
                workers[name] = Worker({"worker": kind, "model": str(model)}, threads=threads, peer=peer)
            except (PeerMissing, WorkerFailed) as error:
                failed[name] = Measured(reason=str(error))
        for batch in batches:
            prompts, group = LOADS[batch]
            load = Grpo(prompts=prompts, group=group, prompt_tokens=32, new_tokens=_NEW_TOKENS[shape.name])
            measured = alternate(workers, rounds=rounds, request={"load": load.to_dict()})
            rate = measured_rate(model, threads, batch, shape.hidden)
            cells.append(_cell(f"sample {shape.name}, batch {batch}", measured | failed, shape, load, rate, threads))
            emit(cells[-1], as_json=False)
    finally:
        for worker in workers.values():
            worker.close()
    return cells


def summarise(cells: Sequence[Mapping[str, Any]], rounds: int, threads: int) -> dict[str, Any]:
    """One object: the smallest ratio of the largest batch, and of batch 1, over models and peers."""
    largest = max(cell["batch"] for cell in cells)
    reasons = [cell["reason"] for cell in cells if cell["reason"]]

    def smallest(batch: int) -> float | None:
        ratios = [cell["ratio"] for cell in cells if cell["batch"] == batch]
        return min(ratios, default=None) if None not in ratios else None

    return {
        "benchmark": "sample",
        "ratio": smallest(largest),
        "ratio_batch_1": smallest(1),
        "reason": reasons[0] if reasons else None,
        "wanted": _WANTED[largest],
        "rounds": rounds,
        "threads": threads,
        "cells": list(cells),
    }


def main() -> None:
    """Print a table for each model and batch, and with ``--json`` one object."""
    parser = options(__doc__)
    parser.add_argument("--models", nargs="+", choices=list(SHAPES), default=list(SHAPES))
    parser.add_argument("--batches", nargs="+", type=int, choices=list(LOADS), default=list(LOADS))
    chosen = parser.parse_args()
    cells: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.models:
            cells += _model(SHAPES[name], chosen.batches, Path(folder), chosen.rounds, chosen.threads)
    record = summarise(cells, chosen.rounds, chosen.threads)
    print(f"smallest ratio at the largest batch {record['ratio']}, at batch 1 {record['ratio_batch_1']}", flush=True)
    if chosen.json:
        import json

        print(json.dumps(record))


if __name__ == "__main__":
    main()
