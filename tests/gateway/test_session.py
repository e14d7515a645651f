"""The session record."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from askesis.clock import VirtualClock
from askesis.gateway.session import Session
from askesis.trace import Budgets, Task


def test_a_session_is_a_frozen_record_of_its_fields() -> None:
    clock = VirtualClock(7.0)
    session = Session(
        id="s",
        task=Task(key="k", environment="e", payload={}),
        group_id="g",
        member_index=2,
        seed=11,
        policy_version=3,
        budgets=Budgets(turns=1),
        clock=clock,
    )
    clock.advance(1.0)
    assert (session.member_index, session.budgets.turns, session.clock.now()) == (2, 1, 8.0)
    with pytest.raises(FrozenInstanceError):
        session.seed = 12  # type: ignore[misc]
    with pytest.raises(TypeError):
        Session("s")  # type: ignore[misc, call-arg]
