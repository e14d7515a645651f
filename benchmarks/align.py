"""ReAlign's application against a plain subtraction of the mean: bytes of float32 embeddings per second of one core.

Both read the same table and write into the same kind of array. Rounds alternate; medians of CPU time are compared,
since the wall clock of a shared machine says little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from askesis.alignment import EmbeddingAligner
from askesis.streams import generator

__all__ = ["measure"]


def measure(rows: int, size: int, rounds: int) -> dict[str, Any]:
    """Median seconds of both, and their rates in GB/s."""
    rng = generator(0, "benchmarks", "align")
    images, texts = (rng.standard_normal((rows, size), dtype=np.float32) + np.float32(shift) for shift in (0.5, -0.5))
    aligner = EmbeddingAligner().fit(images[:2000], texts[:2000])
    mean, out = texts.mean(axis=0), np.empty_like(texts)

    def subtract() -> None:
        np.subtract(texts, mean, out=out)

    def align() -> None:
        aligner.transform(texts, out=out)

    sides: dict[str, Callable[[], None]] = {"numpy": subtract, "ours": align}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, call in sides.items():
            started = time.process_time()
            call()
            if number:  # the first round warms up
                seconds[name].append(time.process_time() - started)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "benchmark": "align",
        "rows": rows,
        "size": size,
        "rounds": rounds,
        "cpu_s": found,
        "gb_per_s": {name: texts.nbytes / value / 1e9 for name, value in found.items()},
        "ratio": found["numpy"] / found["ours"],
        "wanted_gb_per_s": 1.0,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds of each side, after a warm-up")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=1280)
    given = parser.parse_args()
    with threadpool_limits(1):  # figures are of one core; more threads would also count their waiting
        record = measure(given.rows, given.size, given.rounds)
    rates = record["gb_per_s"]
    print(f"align: {rates['ours']:.2f} GB/s per core, wanted {record['wanted_gb_per_s']:g}")
    print(f"a plain subtraction of the mean: {rates['numpy']:.2f} GB/s; ratio {record['ratio']:.2f}")
    if given.json:
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
