"""The arithmetic of one driver, and that the simulation plays what it counts."""

from __future__ import annotations

import pytest
from benchmarks.simulate_scale import Rates, measure, utilisation
from benchmarks.workload import Turns


def test_utilisation_by_hand() -> None:
    # 64 engines of 2,000 tokens/s: 500 calls of 256 tokens, 125 sessions of 4 calls, 7.8125 groups of 16 sessions.
    rates = Rates(engines=64, tokens_per_s=2000, answer=256, turns=4, members=16)
    assert (rates.calls_per_s, rates.sessions_per_s, rates.groups_per_s) == (500, 125, 7.8125)
    used = utilisation(rates, {"call_ms": 2.2, "store_ms": 16.0, "unpack_ms": 8.0})
    assert used["rollout"] == pytest.approx(1.1) and used["store"] == pytest.approx(0.125)
    assert used["alone"] == pytest.approx(1.225) and used["workers"] == 3  # each under half of a core
    assert used["with_workers"] == pytest.approx(0.1875)
    assert utilisation(rates, {"call_ms": 0.5, "store_ms": 16.0, "unpack_ms": 8.0})["workers"] == 1


@pytest.mark.parametrize("over_http", [False, pytest.param(True, marks=pytest.mark.opt_in)])
def test_every_session_is_played(over_http: bool) -> None:
    load = Turns(prompts=2, members=2, turns=2, first=16, observation=8, action=4)
    found = measure(load, 2, 0.01, over_http=over_http)  # it raises when a session fails
    assert found["call_ms"] == pytest.approx(found["session_ms"] / 2) and found["token_us"] > 0
    assert found["store_ms"] > 0 and found["unpack_ms"] > 0
