"""Every estimator with every modulator, credit, objective, shaping and aggregation: it runs, or says why not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import combinations, product

import pytest
import torch

from algorithms.cases import gradient, random_batch
from askesis.algorithms import (
    Aggregation,
    Algorithm,
    LossInputs,
    build,
    credit_names,
    estimator_names,
    modulator_names,
    objective_names,
    shaping_names,
)
from askesis.errors import RecipeError

STAGES = {
    "shaping": shaping_names(),
    "estimator": estimator_names(),
    "modulator": modulator_names(),
    "credit": credit_names(),
    "objective": objective_names(),
    "aggregation": [kind.value for kind in Aggregation],
}
JUDGES = ("psr", "nsr", "w_reinforce", "a_nsr")
REFUSED = {
    *(frozenset({("shaping", "overlong"), ("estimator", name)}) for name in JUDGES),
    frozenset({("credit", "confidence"), ("estimator", "psr")}),
    *(frozenset({("credit", "last_turn"), ("estimator", name)}) for name in ("oases", "oases_grpo")),
}
REWARDS, TOKENS = random_batch(1)


def one_update(algorithm: Algorithm) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of a batch whose optional fields are given only where the algorithm asks for them."""
    given = {f.name for f in fields(REWARDS)} - {"reward_B", "group_B"}
    rewards = replace(REWARDS, **dict.fromkeys(given - algorithm.needs))
    required = {"mask_BT", "sequence_B", "turn_BT", "logp_behaviour_BT"}
    optional = {f.name for f in fields(TOKENS)} - required
    tokens = replace(TOKENS, **dict.fromkeys(optional - algorithm.credit_needs))
    credit = algorithm.credit(algorithm.advantages(rewards), rewards, tokens)
    leaf = (TOKENS.logp_behaviour_BT + 0.1 * TOKENS.logp_behaviour_BT.cos()).requires_grad_()
    result = algorithm.loss(
        LossInputs(
            logp_new_BT=leaf,
            logp_behaviour_BT=tokens.logp_behaviour_BT,
            advantage_BT=credit.advantage_BT,
            mask_BT=tokens.mask_BT,
            weight_BT=algorithm.token_weights(tokens.mask_BT, tokens.sequence_B),
            logp_ref_BT=TOKENS.logp_ref_BT if "logp_ref_BT" in algorithm.needs - algorithm.credit_needs else None,
            sequence_B=tokens.sequence_B if "sequence_B" in algorithm.needs else None,
        )
    )
    return result.loss, gradient(result.loss, leaf)


def clashes(stages: dict[str, str]) -> bool:
    return any(frozenset(pair) in REFUSED for pair in combinations(stages.items(), 2))


def pairs() -> Iterator[dict[str, str]]:
    """Every pair of stages, the others being those of the preset."""
    for one, other in combinations(STAGES, 2):
        for a, b in product(STAGES[one], STAGES[other]):
            yield {one: a, other: b}


def check(stages: dict[str, str], preset: str = "ppo_mean") -> None:
    if clashes(stages):
        with pytest.raises(RecipeError) as caught:
            build(preset, stages)
        assert caught.value.next_step is not None
        return
    algorithm = build(preset, stages)
    assert stages.items() <= algorithm.stages.items()
    loss, grad = one_update(algorithm)
    assert torch.isfinite(loss) and torch.isfinite(grad).all()
    # ppo_clip and gspo may stop all tokens; the others may not.
    assert grad.any() or algorithm.objective.name == "gspo", stages
    assert not grad[~TOKENS.mask_BT].any()


def test_every_pair_of_stages_runs_or_says_why_not() -> None:
    for stages in pairs():
        check(stages)


@pytest.mark.parametrize("estimator", STAGES["estimator"])
def test_every_combination_of_the_four_kinds(estimator: str) -> None:
    for modulator, credit, objective in product(STAGES["modulator"], STAGES["credit"], STAGES["objective"]):
        check({"estimator": estimator, "modulator": modulator, "credit": credit, "objective": objective})


@pytest.mark.parametrize("penalty", [("loss", "k3"), ("loss", "k2"), ("reward", "k1")])
@pytest.mark.parametrize("estimator", STAGES["estimator"])
def test_every_estimator_with_every_kl_penalty(estimator: str, penalty: tuple[str, str]) -> None:
    placement, kind = penalty
    overrides = {"estimator": estimator, "kl_beta": 0.1, "kl_placement": placement, "kl_estimator": kind}
    if placement == "reward" and estimator in JUDGES:
        with pytest.raises(RecipeError, match="would turn right into wrong"):
            build("ppo_mean", overrides)
        return
    loss, grad = one_update(build("ppo_mean", overrides))
    plain_loss, plain_grad = one_update(build("ppo_mean", {"estimator": estimator}))
    assert not torch.equal(grad, plain_grad) and torch.isfinite(grad).all() and torch.isfinite(loss - plain_loss)


def test_every_refusal_is_met() -> None:
    met = {frozenset(stages.items()) for stages in pairs() if clashes(stages)}
    assert met == REFUSED
