"""What a foreign game is to us."""

from __future__ import annotations

import pytest

from askesis.environments.adapters.game import Beat, IllegalAct


def test_a_beat_pays_nothing_and_goes_on_unless_it_says_so() -> None:
    beat = Beat(seen={"agent": "x"})
    assert (beat.paid, beat.stop, beat.reason, beat.info) == ({}, None, "", {})


def test_an_illegal_act_carries_what_the_policy_is_told() -> None:
    with pytest.raises(IllegalAct, match="say 3"):
        raise IllegalAct("say 3")
