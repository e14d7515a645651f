"""A simulation has a clock of its own."""

from __future__ import annotations

from askesis.training.simulation import Simulation


def test_each_simulation_starts_at_its_own_zero() -> None:
    one, other = (Simulation(token_s=0.1, compute_s=1.0) for _ in range(2))
    one.clock.advance(3.0)
    assert (one.clock.now(), other.clock.now()) == (3.0, 0.0)
