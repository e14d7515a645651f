"""Stages by name, built in or offered by a real installed package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from algorithms.cases import rewards_of, token_table
from askesis.algorithms import (
    LossInputs,
    RewardBatch,
    build,
    credit_names,
    estimator_names,
    modulator_names,
    objective_names,
    shaping_names,
)
from askesis.algorithms.registry import find_credit, find_estimator, find_modulator, find_objective, find_shaping
from askesis.errors import AlgorithmError, RecipeError

MODULE = """
import torch
from askesis.algorithms import (
    CreditReport, CreditStage, EstimatorStage, LossTerms, ModulatorStage, ObjectiveStage, Param, RewardBatch,
    ShapingStage,
)

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

def doubled(advantage_BT, batch, tokens, *, times):
    return CreditReport(advantage_BT=times * advantage_BT, diagnostics={"times": times})

DOUBLED = ModulatorStage(name="doubled", function=doubled, summary="more",
    params=(Param(name="times", kind=float, default=2.0, why="how much"),))
HALVED = CreditStage(name="halved", function=lambda advantage_BT, batch, tokens: CreditReport(
    advantage_BT=advantage_BT / 2, diagnostics={"half": 0.5}), summary="less")
SHORTER = ShapingStage(name="shorter", function=lambda batch: batch.reward_B - batch.length_B, summary="short answers",
    needs=frozenset({"length_B"}))
"""
ENTRY_POINTS = """
[askesis.estimators]
signs = plugged_stages:SIGNS
wrong_shape = plugged_stages:WRONG_SHAPE
renamed = plugged_stages:SIGNS
grpo = plugged_stages:SIGNS

[askesis.modulators]
doubled = plugged_stages:DOUBLED

[askesis.credits]
halved = plugged_stages:HALVED
aem = plugged_stages:DOUBLED

[askesis.shapings]
shorter = plugged_stages:SHORTER

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
    assert shaping_names() == ["none", "overlong"]
    assert estimator_names() == [
        *("a_nsr", "dr_grpo", "gae", "gigpo", "grpo", "nsr", "oases", "oases_grpo"),
        *("psr", "reinforce", "rloo", "w_reinforce"),
    ]
    assert modulator_names() == ["aem", "none"]
    assert credit_names() == ["confidence", "dgpo_hellinger", "last_turn", "none"]
    assert objective_names() == ["cispo", "gspo", "ppo_clip", "reinforce", "sapo", "vespo"]
    found = [find_shaping("overlong"), find_estimator("rloo"), find_modulator("aem"), find_credit("confidence")]
    assert [stage.name for stage in [*found, find_objective("vespo")]] == [
        "overlong",
        "rloo",
        "aem",
        "confidence",
        "vespo",
    ]


@pytest.mark.parametrize(
    ("find", "name", "message", "hint"),
    [
        (find_estimator, "rlo", "no estimator called 'rlo'", "did you mean 'rloo'?"),
        (find_objective, "xyz", "no objective called 'xyz'", "name one of the objectives above"),
        (find_modulator, "aen", "no modulator called 'aen'", "did you mean 'aem'?"),
        (find_credit, "dgpo", "no credit called 'dgpo'", "name one of the credits above"),
        (find_shaping, "over_long", "no shaping called 'over_long'", "did you mean 'overlong'?"),
    ],
)
def test_unknown_names_get_the_closest_one(find: Callable[[str], object], name: str, message: str, hint: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        find(name)
    assert caught.value.next_step == hint


@pytest.mark.usefixtures("plugin")
def test_stages_of_a_package_act_in_their_order() -> None:
    overrides = {"shaping": "shorter", "modulator": "doubled", "credit": "halved", "times": 6}
    algorithm = build("reinforce", overrides)
    assert algorithm.stages == {
        "shaping": "shorter",
        "estimator": "reinforce",
        "modulator": "doubled",
        "credit": "halved",
        "objective": "reinforce",
        "aggregation": "seq_mean_token_sum",
    }
    assert algorithm.needs == {"length_B"} and algorithm.params["times"] == 6.0
    rewards = rewards_of([5.0], length_B=torch.tensor([2]))
    report = algorithm.credit(algorithm.advantages(rewards), rewards, token_table([[0, 0]]))
    assert report.advantage_BT.tolist() == [[9.0, 9.0]]
    assert report.diagnostics == {"times": 6.0, "half": 0.5}


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
        ("credit", "aem", "is not the stage that it says"),
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
