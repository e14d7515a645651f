"""The named algorithms are the papers'."""

from __future__ import annotations

import pytest

from askesis.algorithms import PRESETS, build
from askesis.algorithms.presets import find_preset
from askesis.errors import RecipeError

# Baselines: baselines-rlvr.md 2, 3 and 4; the others: sections 4 of a-nsr.md, aem.md, dgpo.md and vespo.md.
NONE = ("none", "none", "none")
CLIP = {"clip_low": 0.2, "clip_high": 0.2, "dual_clip": None, "kl_beta": 0.0}
SEARCH_R1 = {**CLIP, "kl_beta": 0.001, "kl_placement": "reward", "gamma": 1.0, "whiten_advantages": True}
VERL_AGENT = {**CLIP, "dual_clip": 3.0, "kl_beta": 0.01, "kl_estimator": "k3", "kl_placement": "loss"}


COMPOSITIONS: list[tuple[str, tuple[str, ...], dict[str, object]]] = [
    (
        "reinforce",
        ("reinforce", "reinforce", "seq_mean_token_sum", *NONE),
        {"baseline": "zero", "importance_weighted": False, "kl_beta": 0.0},
    ),
    ("rloo", ("rloo", "reinforce", "seq_mean_token_sum", *NONE), {"kl_beta": 0.03, "kl_placement": "reward"}),
    ("ppo_mean", ("reinforce", "ppo_clip", "token_mean", *NONE), {**CLIP, "baseline": "batch_mean"}),
    ("ppo", ("gae", "ppo_clip", "token_mean", *NONE), {**SEARCH_R1, "gae_lambda": 1.0}),
    (
        "oases",
        ("oases", "ppo_clip", "token_mean", *NONE),
        {**SEARCH_R1, "process_weight": 0.5, "process_credit": "return_to_go"},
    ),
    (
        "oases_grpo",
        ("oases_grpo", "ppo_clip", "token_mean", *NONE),
        {**CLIP, "kl_beta": 0.001, "kl_placement": "loss", "process_weight": 0.5, "advantage_eps": 1e-6},
    ),
    (
        "grpo",
        ("grpo", "ppo_clip", "seq_mean_token_mean", *NONE),
        {**CLIP, "kl_beta": 0.04, "kl_estimator": "k3", "kl_placement": "loss", "advantage_eps": 1e-6},
    ),
    (
        "dr_grpo",
        ("dr_grpo", "ppo_clip", "seq_mean_token_sum_norm", *NONE),
        {**CLIP, "norm_length": 3000},
    ),
    (
        "dapo",
        ("grpo", "ppo_clip", "token_mean", "overlong", "none", "none"),
        {
            **CLIP,
            "clip_high": 0.28,
            "dynamic_sampling": True,
            "drop_truncated": False,
            "overlong_limit": 20480,
            "overlong_cache": 4096,
            "overlong_penalty": 1.0,
        },
    ),
    (
        "gspo",
        ("grpo", "gspo", "seq_mean_token_mean", *NONE),
        {"clip_low": 3e-4, "clip_high": 4e-4, "kl_beta": 0.0},
    ),
    (
        "cispo",
        ("grpo", "cispo", "token_mean", *NONE),
        {"clip_low": None, "clip_high": 0.2, "cap": "above_one", "kl_beta": 0.0},
    ),
    (
        "sapo",
        ("grpo", "sapo", "seq_mean_token_mean", *NONE),
        {"tau_positive": 1.0, "tau_negative": 1.05, "kl_beta": 0.0},
    ),
    (
        "vespo",
        ("grpo", "vespo", "token_mean", *NONE),
        {"c1_positive": 2.0, "c2_positive": 3.0, "c1_negative": 3.0, "c2_negative": 2.0, "kl_beta": 0.0},
    ),
    (
        "vespo_docstring",
        ("grpo", "vespo", "token_mean", *NONE),
        {"c1_positive": 2.0, "c2_positive": 1.5, "c1_negative": 4.0, "c2_negative": 2.5, "kl_beta": 0.0},
    ),
    (
        "gigpo",
        ("gigpo", "ppo_clip", "token_mean", *NONE),
        {**VERL_AGENT, "discount": 0.95, "step_weight": 1.0, "normaliser": "std", "statistics": "trajectory"},
    ),
    ("psr", ("psr", "ppo_clip", "token_mean", *NONE), CLIP),
    ("nsr", ("nsr", "ppo_clip", "token_mean", *NONE), {**CLIP, "dual_clip": 3.0}),
    ("w_reinforce", ("w_reinforce", "ppo_clip", "token_mean", *NONE), {**CLIP, "positive_weight": 0.1}),
    (
        "w_reinforce_decay",
        ("a_nsr", "ppo_clip", "token_mean", *NONE),
        {**CLIP, "acting": "scale", "positive_max": 0.1, "negative_max": 1.5, "negative_min": 0.5},
    ),
    (
        "a_nsr",
        ("a_nsr", "ppo_clip", "token_mean", *NONE),
        {
            **CLIP,
            "acting": "both",
            "negative_schedule": "exponential",
            "negative_max": 1.5,
            "negative_min": 0.5,
            "negative_decay": 4.5,
            "positive_min": 0.05,
            "positive_max": 0.2,
        },
    ),
    (
        "cw_nsr",
        ("w_reinforce", "ppo_clip", "token_mean", "none", "none", "confidence"),
        {**CLIP, "positive_weight": 0.1, "confidence_floor": 0.05, "confidence_mean_one": False},
    ),
    (
        "a_cw_nsr",
        ("a_nsr", "ppo_clip", "token_mean", "none", "none", "confidence"),
        {**CLIP, "acting": "both", "confidence_floor": 0.05},
    ),
    (
        "grpo_aem",
        ("grpo", "ppo_clip", "token_mean", "none", "aem", "none"),
        {**VERL_AGENT, "aem_lambda": 1.0, "aem_min_range": 0.1, "aem_scope": "group"},
    ),
    (
        "gigpo_aem",
        ("gigpo", "ppo_clip", "token_mean", "none", "aem", "none"),
        {**VERL_AGENT, "aem_lambda": 1.0, "discount": 0.95},
    ),
    (
        "memsearcher",
        ("grpo", "ppo_clip", "token_mean", *NONE),
        {**CLIP, "dual_clip": 3.0, "kl_beta": 0.001, "kl_estimator": "k3", "kl_placement": "loss"},
    ),
    (
        "dgpo_hellinger",
        ("grpo", "ppo_clip", "seq_mean_token_mean", "none", "none", "dgpo_hellinger"),
        {
            **CLIP,
            "dgpo_tau": 0.5,
            "dgpo_kappa": 1.0,
            "dgpo_root": False,
            "dgpo_max_entropy": "log_vocab",
            "dgpo_whole_trajectory": False,
        },
    ),
]


@pytest.mark.parametrize(("name", "stages", "params"), COMPOSITIONS)
def test_composition(name: str, stages: tuple[str, ...], params: dict[str, object]) -> None:
    algorithm = build(name)
    keys = ("estimator", "objective", "aggregation", "shaping", "modulator", "credit")
    assert tuple(algorithm.stages[key] for key in keys) == stages
    assert {key: algorithm.params[key] for key in params} == params


def test_every_preset_is_found_under_its_own_name_only_and_checked_above() -> None:
    names = [preset.name for preset in PRESETS]
    assert sorted(names) == sorted(name for name, _, _ in COMPOSITIONS)
    assert [find_preset(name).name for name in names] == names


def test_only_dapo_samples_again() -> None:
    assert [preset.name for preset in PRESETS if build(preset.name).resamples_constant_groups] == ["dapo"]


def test_an_unknown_name_gets_the_closest_one() -> None:
    with pytest.raises(RecipeError, match="no algorithm called 'dappo'") as caught:
        find_preset("dappo")
    assert caught.value.next_step == "did you mean 'dapo'?"
    assert "dr_grpo, gigpo" in str(caught.value.expected)
