"""Stages by name, built in or offered by a real installed package."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from askesis.algorithms import LossInputs, RewardBatch, build, estimator_names, objective_names
from askesis.algorithms.registry import find_estimator, find_objective
from askesis.errors import AlgorithmError, RecipeError

MODULE = """
import torch
from askesis.algorithms import EstimatorStage, LossTerms, ObjectiveStage, Param, RewardBatch

def signs(batch: RewardBatch, *, flip: bool):
    return torch.sign(batch.reward_B) * (-1 if flip else 1)

def by_sequence(logp_new_BT, logp_behaviour_BT, advantage_BT, mask_BT, *, sequence_B, scale):
    return LossTerms(per_token_BT=-scale * sequence_B[:, None] * logp_new_BT * mask_BT, diagnostics={})

SIGNS = EstimatorStage(name="signs", function=signs, summary="sign", params=(
    Param(name="flip", kind=bool, default=False, why="turn it round"),))
BY_SEQUENCE = ObjectiveStage(name="by_sequence", function=by_sequence, summary="needs ids",
    params=(Param(name="scale", kind=float, default=2.0, why="size"),), needs=frozenset({"sequence_B"}))
CLASH = ObjectiveStage(name="clash", function=by_sequence, summary="clashes",
    params=(Param(name="flip", kind=float, default=2.0, why="size"),))
WRONG_SHAPE = EstimatorStage(name="wrong_shape", function=lambda batch: batch.reward_B[:1], summary="too short")

def summed(logp_new_BT, logp_behaviour_BT, advantage_BT, mask_BT):
    return LossTerms(per_token_BT=logp_new_BT.sum(dim=1), diagnostics={})

SUMMED = ObjectiveStage(name="summed", function=summed, summary="aggregates by itself")
"""
ENTRY_POINTS = """
[askesis.estimators]
signs = plugged_stages:SIGNS
wrong_shape = plugged_stages:WRONG_SHAPE
renamed = plugged_stages:SIGNS
grpo = plugged_stages:SIGNS

[askesis.objectives]
by_sequence = plugged_stages:BY_SEQUENCE
clash = plugged_stages:CLASH
summed = plugged_stages:SUMMED
broken = plugged_stages_that_are_not_there:THING
not_a_stage = plugged_stages:signs
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "plugged-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "plugged_stages.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)


def test_built_in_names() -> None:
    assert estimator_names() == ["dr_grpo", "grpo", "reinforce", "rloo"]
    assert objective_names() == ["ppo_clip", "reinforce"]
    assert find_estimator("rloo").name == "rloo" and find_objective("ppo_clip").name == "ppo_clip"


def test_unknown_names_get_the_closest_one() -> None:
    with pytest.raises(RecipeError, match="no estimator called 'rlo'") as caught:
        find_estimator("rlo")
    assert caught.value.next_step == "did you mean 'rloo'?"
    with pytest.raises(RecipeError, match="no objective called 'xyz'") as caught:
        find_objective("xyz")
    assert caught.value.expected == "ppo_clip, reinforce"


@pytest.mark.usefixtures("plugin")
def test_stages_of_a_package_run_like_built_in_ones() -> None:
    assert "signs" in estimator_names() and "by_sequence" in objective_names()
    algorithm = build("rloo", {"estimator": "signs", "flip": True, "objective": "by_sequence", "kl_beta": 0})
    assert algorithm.needs == {"sequence_B"}
    rewards = RewardBatch(reward_B=torch.tensor([-3.0, 2.0]), group_B=torch.tensor([0, 0]))
    assert algorithm.advantages(rewards).advantage_B.tolist() == [1.0, -1.0]
    one = torch.ones(2, 1)
    inputs = LossInputs(
        logp_new_BT=-one,
        logp_behaviour_BT=-one,
        advantage_BT=one,
        mask_BT=one > 0,
        weight_BT=one,
        sequence_B=torch.tensor([3, 4]),
    )
    assert float(algorithm.loss(inputs).loss) == 2.0 * (3 + 4)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("key", "name", "message"),
    [
        ("estimator", "grpo", "several estimators are called 'grpo'"),
        ("estimator", "renamed", "is not the stage that it says"),
        ("objective", "not_a_stage", "is not the stage that it says"),
        ("objective", "broken", "cannot be imported"),
    ],
)
def test_packages_that_break_the_contract_are_named(key: str, name: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        build("rloo", {key: name})
    assert "plugged 1.2" in str(caught.value)


@pytest.mark.usefixtures("plugin")
def test_a_parameter_that_two_stages_share_is_refused() -> None:
    with pytest.raises(RecipeError, match="two stages have a parameter of the same name") as caught:
        build("rloo", {"estimator": "signs", "objective": "clash"})
    assert caught.value.got == "flip"


@pytest.mark.usefixtures("plugin")
def test_stages_that_return_the_wrong_shape_are_named() -> None:
    algorithm = build("rloo", {"estimator": "wrong_shape", "objective": "summed", "kl_beta": 0})
    with pytest.raises(AlgorithmError, match="one advantage for each trajectory") as caught:
        algorithm.advantages(RewardBatch(reward_B=torch.zeros(2), group_B=torch.tensor([0, 0])))
    assert caught.value.where == "estimator wrong_shape"
    one = torch.ones(2, 2)
    inputs = LossInputs(logp_new_BT=-one, logp_behaviour_BT=-one, advantage_BT=one, mask_BT=one > 0, weight_BT=one)
    with pytest.raises(AlgorithmError, match="one loss for each token") as caught:
        algorithm.loss(inputs)
    assert caught.value.where == "objective summed"
