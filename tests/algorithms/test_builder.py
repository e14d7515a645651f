"""From a name and overrides to an algorithm, or to an error that says what to type."""

from __future__ import annotations

import json

import pytest

from askesis.algorithms import PRESETS, Coupling, Preset, build
from askesis.algorithms.aggregation import Aggregation
from askesis.algorithms.builder import assemble
from askesis.errors import RecipeError


def test_overrides_replace_parameters_and_are_reported_against_the_preset() -> None:
    algorithm = build("grpo", {"clip_high": 0.28, "kl_beta": 0, "aggregation": "token_mean", "clip_low": 0.2})
    assert algorithm.params["clip_high"] == 0.28 and algorithm.aggregation is Aggregation.TOKEN_MEAN
    # clip_low was given the value that it has anyway.
    assert algorithm.changed == {"clip_high": 0.2, "kl_beta": 0.04, "aggregation": "seq_mean_token_mean"}


def test_a_replaced_stage_starts_from_its_own_defaults() -> None:
    algorithm = build("reinforce", {"objective": "ppo_clip", "dual_clip": 3})
    assert algorithm.objective_params == {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 3.0}
    assert algorithm.changed == {"objective": "reinforce"}
    assert "importance_weighted" not in algorithm.params


def test_constants_of_a_preset_leave_with_the_stage_that_they_were_for() -> None:
    preset = Preset(
        name="mine",
        estimator="grpo",
        objective="ppo_clip",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_SUM_NORM,
        params={
            "advantage_eps": 1e-4,
            "clip_high": 0.28,
            "norm_length": 50,
            "importance_weighted": True,
            "baseline": "x",
            "aem_lambda": 7.0,
            "dgpo_tau": 7.0,
            "overlong_penalty": 7.0,
        },
        summary="for this test",
        source="none",
    )
    own = assemble(preset, {})
    assert own.estimator_params == {"advantage_eps": 1e-4} and own.norm_length == 50
    assert own.objective_params == {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": None}
    replaced = assemble(preset, {"estimator": "reinforce", "objective": "reinforce", "aggregation": "token_mean"})
    assert replaced.estimator_params == {"baseline": "zero"} and replaced.norm_length is None
    assert replaced.objective_params == {"importance_weighted": False}
    guided = assemble(preset, {"modulator": "aem", "credit": "dgpo_hellinger", "shaping": "overlong"})
    assert (guided.params["aem_lambda"], guided.params["dgpo_tau"], guided.params["overlong_penalty"]) == (1, 0.5, 1)
    assert assemble(preset, {"clip_high": 0.3}).objective_params["clip_high"] == 0.3


def test_norm_length_belongs_to_the_aggregation_that_divides_by_it() -> None:
    assert build("dr_grpo", {"norm_length": 64}).norm_length == 64
    assert build("grpo", {"aggregation": "seq_mean_token_sum_norm"}).norm_length == 3000
    assert build("grpo").norm_length is None and "norm_length" not in build("grpo").params
    with pytest.raises(RecipeError, match="no stage of this algorithm has a parameter called 'norm_length'"):
        build("grpo", {"norm_length": 64})


@pytest.mark.parametrize("name", [preset.name for preset in PRESETS])
def test_a_description_is_json_and_builds_the_same_algorithm_again(name: str) -> None:
    algorithm = build(name)
    described = json.loads(json.dumps(algorithm.describe()))
    assert described["changed"] == {}
    again = build(described["algorithm"], described["params"])
    assert again.describe() == algorithm.describe()


def test_description_of_a_changed_algorithm() -> None:
    assert build("rloo", {"kl_beta": 0, "importance_weighted": True}).describe() == {
        "algorithm": "rloo",
        "shaping": "none",
        "estimator": "rloo",
        "modulator": "none",
        "credit": "none",
        "objective": "reinforce",
        "aggregation": "seq_mean_token_sum",
        "params": {
            "importance_weighted": True,
            "kl_beta": 0.0,
            "kl_estimator": "k1",
            "kl_placement": "reward",
            "dynamic_sampling": False,
            "drop_truncated": False,
        },
        "needs": [],
        "changed": {"kl_beta": 0.03, "importance_weighted": False},
    }


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("reinforce", set()),
        ("rloo", {"kl_B"}),
        ("grpo", {"logp_ref_BT"}),
        ("dr_grpo", set()),
        ("dapo", {"length_B"}),
        ("vespo", {"sequence_B"}),
        ("a_cw_nsr", {"progress"}),
        ("dgpo_hellinger", {"hellinger_BT", "entropy_BT", "vocab_size"}),
        ("gigpo_aem", {"num_turns_B", "anchor_BT", "step_reward_BT", "entropy_BT", "logp_ref_BT"}),
    ],
)
def test_what_must_be_given(name: str, needs: set[str]) -> None:
    assert build(name).needs == needs


def test_what_must_be_given_before_credit() -> None:
    assert build("gigpo_aem").credit_needs == {"anchor_BT", "step_reward_BT", "entropy_BT"}
    assert build("dgpo_hellinger").credit_needs == {"hellinger_BT", "entropy_BT", "vocab_size"}
    assert build("grpo").credit_needs == build("dapo").credit_needs == set()


def test_which_objectives_look_at_whole_sequences() -> None:
    coupled = {preset.name for preset in PRESETS if build(preset.name).couples is Coupling.SEQUENCE}
    assert coupled == {"gspo", "vespo", "vespo_docstring"}
    assert build("grpo").couples == "token" and build("gspo").couples == "sequence"


def test_modulator_and_credit_are_keys_like_the_others() -> None:
    algorithm = build("grpo", {"modulator": "aem", "credit": "dgpo_hellinger", "kl_beta": 0, "dgpo_tau": 0.1})
    assert algorithm.modulator_params == {"aem_lambda": 1.0, "aem_min_range": 0.1, "aem_scope": "group"}
    assert algorithm.credit_params["dgpo_tau"] == 0.1
    assert algorithm.changed == {"modulator": "none", "credit": "none", "kl_beta": 0.04}
    assert build("gigpo_aem", {"modulator": "none"}).changed == {"modulator": "aem"}
    with pytest.raises(RecipeError, match="no stage of this algorithm has a parameter called 'aem_lambda'"):
        build("grpo", {"aem_lambda": 2})


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        ({"clip_hi": 0.2}, "parameter called 'clip_hi'", "did you mean 'clip_high'?"),
        ({"objective": "reinforce", "clip_low": 0.2}, "parameter called 'clip_low'", "the stage that it belongs to"),
        ({"baseline": "zero"}, "parameter called 'baseline'", "the stage that it belongs to"),
        ({"objective": "ppo_clop"}, "no objective called", "did you mean 'ppo_clip'?"),
        ({"estimator": "dr_gpo"}, "no estimator called", "did you mean 'dr_grpo'?"),
        ({"aggregation": "token_means"}, "no aggregation called", "did you mean 'token_mean'?"),
        ({"modulator": "aen"}, "no modulator called", "did you mean 'aem'?"),
        ({"credit": 1}, "credit must be a name", "for example 'none'"),
        ({"dynamic_sampling": 1}, "dynamic_sampling has a value", "true or false"),
        ({"estimator": 3}, "estimator must be a name", "for example 'grpo'"),
        ({"clip_low": 0}, "clip_low has a value", "its default is 0.2"),
        ({"clip_high": "0.2"}, "clip_high has a value", "a finite number above 0"),
        ({"dual_clip": 1.0}, "dual_clip has a value", "a finite number above 1"),
        ({"advantage_eps": -1e-6}, "advantage_eps has a value", "at least 0"),
        ({"kl_estimator": "k4"}, "kl_estimator has a value", "one of 'k1', 'k2', 'k3'"),
        ({"kl_estimator": "k1"}, "regularises nothing", "kl_estimator = 'k3'"),
        ({"kl_placement": "reward"}, "which is k1", "kl_estimator = 'k1'"),
    ],
)
def test_what_cannot_be_built_is_explained(overrides: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        build("grpo", overrides)
    assert hint in str(caught.value)
