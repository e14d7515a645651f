"""Sessions stay where they are as long as they can."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.engines.vllm.routing import choose


@settings(max_examples=40)
@given(st.text(max_size=20), st.sets(st.integers(0, 7), min_size=2), st.data())
def test_only_sessions_of_a_replica_that_is_gone_move(session: str, replicas: set[int], data: st.DataObject) -> None:
    before = choose(session, sorted(replicas))
    gone = data.draw(st.sampled_from(sorted(replicas)))
    after = choose(session, sorted(replicas - {gone}))
    assert (after == before) == (gone != before)
    assert choose(session, sorted(replicas, reverse=True)) == before


def test_sessions_spread() -> None:
    counts = Counter(choose(f"run/train/000000/{i:04d}/0", range(4)) for i in range(4000))
    assert all(900 < count < 1100 for count in counts.values())
