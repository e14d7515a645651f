"""Timing two programs fairly: alternately, after a warm-up, threads pinned, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Comparison", "compare"]


class Comparison(NamedTuple):
    """Median seconds of ours and of the peer; ``ratio`` says how many times faster ours is."""

    ours_s: float
    peer_s: float
    rounds: int

    @property
    def ratio(self) -> float:
        """Peer's time over ours: more is better."""
        return self.peer_s / self.ours_s


def compare(ours: Callable[[], object], peer: Callable[[], object], *, rounds: int = 7) -> Comparison:
    """Run both ``rounds`` times in turn, after one run of each that is not counted."""
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for number in range(rounds + 1):
        for name, work in (("ours", ours), ("peer", peer)):
            began = time.perf_counter()
            work()
            if number:
                times[name].append(time.perf_counter() - began)
    return Comparison(statistics.median(times["ours"]), statistics.median(times["peer"]), rounds)
