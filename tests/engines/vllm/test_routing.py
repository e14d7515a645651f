"""Sessions stay where they are as long as they can."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from askesis.engines.vllm.routing import choose

SESSIONS = [f"run/train/000000/{i:04d}/0" for i in range(4000)]


def test_only_sessions_of_a_replica_that_is_gone_move() -> None:
    for size in (2, 3, 5):
        for replicas in combinations(range(6), size):
            for session in SESSIONS[:40]:
                before = choose(session, replicas)
                assert choose(session, replicas[::-1]) == before
                for gone in replicas:
                    after = choose(session, [r for r in replicas if r != gone])
                    assert (after == before) == (gone != before)


def test_sessions_spread() -> None:
    counts = Counter(choose(session, range(4)) for session in SESSIONS)
    assert all(900 < count < 1100 for count in counts.values())


def test_sessions_of_a_replica_that_is_gone_spread_over_the_others() -> None:
    moved = [session for session in SESSIONS if choose(session, range(4)) == 0]
    counts = Counter(choose(session, [1, 2, 3]) for session in moved)
    assert all(0.25 < count / len(moved) < 0.42 for count in counts.values())
