"""The named algorithms are the papers'."""

from __future__ import annotations

import pytest

from askesis.algorithms import PRESETS, build
from askesis.algorithms.presets import find_preset
from askesis.errors import RecipeError


@pytest.mark.parametrize(
    ("name", "stages", "params"),
    [
        (
            "reinforce",
            ("reinforce", "reinforce", "seq_mean_token_sum"),
            {"baseline": "zero", "importance_weighted": False, "kl_beta": 0.0},
        ),
        ("rloo", ("rloo", "reinforce", "seq_mean_token_sum"), {"kl_beta": 0.03, "kl_placement": "reward"}),
        (
            "grpo",
            ("grpo", "ppo_clip", "seq_mean_token_mean"),
            {"clip_low": 0.2, "clip_high": 0.2, "kl_beta": 0.04, "kl_estimator": "k3", "kl_placement": "loss"},
        ),
        (
            "dr_grpo",
            ("dr_grpo", "ppo_clip", "seq_mean_token_sum_norm"),
            {"clip_low": 0.2, "clip_high": 0.2, "norm_length": 3000, "kl_beta": 0.0},
        ),
    ],
)
def test_composition(name: str, stages: tuple[str, str, str], params: dict[str, object]) -> None:
    algorithm = build(name)
    assert (algorithm.estimator.name, algorithm.objective.name, algorithm.aggregation) == stages
    assert {key: algorithm.params[key] for key in params} == params


def test_every_preset_is_found_under_its_own_name_only() -> None:
    names = [preset.name for preset in PRESETS]
    assert names == ["reinforce", "rloo", "grpo", "dr_grpo"]
    assert [find_preset(name).name for name in names] == names


def test_an_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(RecipeError, match="no algorithm called 'gpro'") as caught:
        find_preset("gpro")
    assert caught.value.next_step == "did you mean 'grpo'?"
    assert caught.value.expected == "dr_grpo, grpo, reinforce, rloo"
