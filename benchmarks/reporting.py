"""From measurements to a table and one JSON object. Every benchmark reports through here."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from typing import Any

from benchmarks.side_by_side import Measured, table

__all__ = ["compare", "emit", "options", "ratio"]


def options(description: str | None, *, rounds: int = 7) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="end with one JSON object")
    parser.add_argument("--rounds", type=int, default=rounds, help="timed rounds of each side, after a warm-up")
    parser.add_argument("--threads", type=int, default=2, help="of each side's tensor operations")
    return parser


def ratio(ours: Measured, peer: Measured, name: str = "wall_s") -> float | None:
    """The peer's median over ours: more is better. None when one of them was not measured."""
    if ours.reason is not None or peer.reason is not None:
        return None
    return peer.median(name) / ours.median(name)


def compare(
    benchmark: str,
    measured: Mapping[str, Measured],
    *,
    against: str,
    wanted: float,
    threads: int,
    flops: float,
    rate: float | None,
    ours: str = "ours",
) -> dict[str, Any]:
    """One object for ours and all peers; ``ratio`` is against the peer called ``against``.

    Args:
        wanted: the ratio to reach.
        flops: of the distinct-token computation.
        rate: of a matrix product on the same threads, operations per second; None when ours was not measured.
    """
    own, peer = measured[ours], measured[against]
    floor_s = flops / rate if rate else None
    return {
        "benchmark": benchmark,
        "ratio": ratio(own, peer),
        "reason": own.reason or peer.reason,
        "wanted": wanted,
        "cpu_ratio": ratio(own, peer, "cpu_s"),
        "against": against,
        "rounds": max((len(m.rounds) for m in measured.values()), default=0),
        "threads": threads,
        "machine": platform.machine(),
        "flops": flops,
        "flops_per_s": rate,
        "floor_s": floor_s,
        "times_floor": own.median("wall_s") / floor_s if floor_s and own.reason is None else None,
        "memory_ratio": _memory_ratio(own, peer),
        "sides": {name: side.summary() for name, side in measured.items()},
        "ratios": {name: ratio(own, side) for name, side in measured.items() if name != ours},
    }


def _memory_ratio(ours: Measured, peer: Measured) -> float | None:
    """Our peak memory above the loaded program, over the peer's: less is better."""
    if ours.reason is not None or peer.reason is not None:
        return None
    own, other = ours.summary()["own_mb"], peer.summary()["own_mb"]
    return own / other if other > 0 else None


def emit(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the table of a :func:`compare` object, and the object itself if asked for.

    The last column is what ``ratio`` compares, the peer's over ours.
    """
    print(f"{record['benchmark']}: {record['rounds']} rounds, {record['threads']} threads")
    rows = []
    for name, side in record["sides"].items():
        if "reason" in side:
            rows.append([name, f"not measured: {side['reason']}"])
            continue
        times = record["ratios"].get(name)
        cells = [f"{side['wall_s']:.3f}", f"{side['cpu_s']:.3f}", f"{side['tokens_per_s']:.0f}"]
        cells += [f"{side['peak_mb']:.0f}", f"{side['own_mb']:.0f}", "" if times is None else f"{times:.2f}"]
        rows.append([name, *cells])
    print(table(["", "wall s", "CPU s", "tokens/s", "peak MB", "own MB", "over ours"], rows))
    if record["floor_s"] is not None and record["times_floor"] is not None:
        rate = record["flops_per_s"] / 1e9
        print(
            f"floor {record['floor_s']:.3f} s at {rate:.0f} Gflop/s; ours takes {record['times_floor']:.1f} times that"
        )
    reached = "not measured" if record["ratio"] is None else f"{record['ratio']:.2f}"
    print(f"ratio {reached} against {record['against']}, wanted at least {record['wanted']}\n", flush=True)
    if as_json:
        print(json.dumps(record), flush=True)
