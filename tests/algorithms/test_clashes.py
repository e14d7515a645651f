"""Choices that would not do what they say are refused with the reason and the way out."""

from __future__ import annotations

import pytest

from askesis.algorithms import build
from askesis.errors import RecipeError


@pytest.mark.parametrize(
    ("name", "overrides", "message", "way_out"),
    [
        ("psr", {"credit": "confidence"}, "estimator 'psr' gives none", {"credit": "none"}),
        ("grpo", {"credit": "dgpo_hellinger"}, "guided by the distance", {"credit": "dgpo_hellinger", "kl_beta": 0}),
        ("dapo", {"estimator": "nsr"}, "'overlong' would turn right into wrong", None),
        ("a_nsr", {"dynamic_sampling": True}, "dynamic sampling throws them away", {"dynamic_sampling": False}),
        ("oases", {"credit": "last_turn"}, "keeps only the last", {"credit": "none"}),
        ("oases_grpo", {"dynamic_sampling": True}, "dynamic sampling throws them away", {"dynamic_sampling": False}),
        (
            "w_reinforce",
            {"kl_beta": 0.1, "kl_placement": "reward", "kl_estimator": "k1"},
            "a KL penalty in the reward would turn right into wrong",
            {"kl_beta": 0.1, "kl_placement": "loss", "kl_estimator": "k3"},
        ),
    ],
)
def test_contradictions(
    name: str, overrides: dict[str, object], message: str, way_out: dict[str, object] | None
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        build(name, overrides)
    assert caught.value.next_step is not None
    way_out = {"estimator": "nsr", "shaping": "none", "dynamic_sampling": False} if way_out is None else way_out
    assert build(name, way_out).name == name
