"""How long one search takes in a generated world of 100,000 facts, in this process: wall and CPU milliseconds.

Queries are those that a policy writes, *kind of Name*, each about another fact. ``ratio`` is the wanted 99th percentile
of BM25 over the measured one: above 1 is good.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from askesis.environments.search.chain import ChainWorld
from askesis.environments.search.retrievers.bm25 import BM25Retriever
from askesis.environments.search.retrievers.fts5 import FTS5Retriever
from askesis.environments.search.retrievers.protocol import Retriever
from benchmarks.reporting import options

__all__ = ["WANTED_P50_MS", "WANTED_P99_MS", "measure"]

WANTED_P50_MS, WANTED_P99_MS = 2.0, 10.0
_PEOPLE, _SEARCHES, _TOP_K = 20_000, 2_000, 2
_MAKERS: dict[str, Callable[[ChainWorld], Retriever]] = {"bm25": BM25Retriever, "fts5": FTS5Retriever}


def measure(people: int = _PEOPLE, searches: int = _SEARCHES) -> dict[str, Any]:
    """Build each index once and search it; a search that does not find its fact is a ValueError."""
    world = ChainWorld(num_entities=people)
    rng = np.random.default_rng(0)
    asked = [(int(rng.integers(people)), int(rng.integers(len(world.relations)))) for _ in range(searches)]
    found: dict[str, Any] = {"benchmark": "retrieval", "facts": world.num_facts, "searches": searches}
    for name, make in _MAKERS.items():
        began = time.perf_counter()
        retriever = make(world)
        found[f"{name}_index_s"] = time.perf_counter() - began
        wall, cpu = [], []
        for person, relation in asked:
            query = f"{world.relations[relation]} of {world.names[person]}"
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            hits = retriever.find(query, _TOP_K)
            wall.append(time.perf_counter() - wall_s)
            cpu.append(time.process_time() - cpu_s)
            if hits[0].passage.text != world.fact(person, relation):
                raise ValueError(f"{name} did not find {world.fact(person, relation)!r}")
        for kind, times in (("wall", wall), ("cpu", cpu)):
            p50, p99 = np.quantile(times, (0.5, 0.99)) * 1000
            found |= {f"{name}_{kind}_p50_ms": float(p50), f"{name}_{kind}_p99_ms": float(p99)}
    ratio = min(WANTED_P50_MS / found["bm25_wall_p50_ms"], WANTED_P99_MS / found["bm25_wall_p99_ms"])
    return {**found, "ratio": ratio, "wanted": 1.0}


def main() -> None:
    """Print a line for each number, and with ``--json`` one object."""
    arguments = options(__doc__).parse_args()
    found = measure()
    for name, value in found.items():
        print(f"{name}: {value:.3f}" if isinstance(value, float) else f"{name}: {value}")
    if arguments.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
