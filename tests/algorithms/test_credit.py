"""From trajectories to tokens: every estimator, modulator and credit, however the rows lie."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from algorithms.cases import random_batch, rewards_of, token_table
from askesis.algorithms import (
    PRESETS,
    CreditReport,
    ModulatorStage,
    RewardBatch,
    TokenBatch,
    build,
    credit_names,
    estimator_names,
    modulator_names,
)
from askesis.errors import AlgorithmError

# One for each estimator, modulator and credit that there is, and the presets that combine them.
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *(("ppo_mean", {"estimator": name}) for name in estimator_names()),
    *(("reinforce", {"modulator": name}) for name in modulator_names()),
    *(("nsr", {"credit": name}) for name in credit_names()),
    ("gigpo_aem", {"credit": "dgpo_hellinger", "kl_beta": 0}),
    ("gigpo", {"statistics": "turn", "normaliser": "none"}),
    ("a_cw_nsr", {"confidence_per_turn": True, "modulator": "aem"}),
]
every_stage = pytest.mark.parametrize(("name", "overrides"), VARIANTS)


def credit(name: str, overrides: dict[str, object], rewards: RewardBatch, tokens: TokenBatch) -> torch.Tensor:
    algorithm = build(name, overrides)
    return algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT


def tensors(tokens: TokenBatch) -> dict[str, torch.Tensor]:
    return {f.name: x for f in fields(tokens) if isinstance(x := getattr(tokens, f.name), torch.Tensor)}


def take(tokens: TokenBatch, rows: torch.Tensor) -> TokenBatch:
    return replace(tokens, **{name: x[rows] for name, x in tensors(tokens).items()})


@every_stage
@pytest.mark.parametrize("seed", range(3))
def test_padding_and_rubbish_under_it_do_not_matter(name: str, overrides: dict[str, object], seed: int) -> None:
    rewards, tokens = random_batch(seed)
    expected = credit(name, overrides, rewards, tokens)
    assert not expected[~tokens.mask_BT].any() and expected[tokens.mask_BT].any()
    padded = {}
    for field, x in tensors(tokens).items():
        if field == "sequence_B":
            padded[field] = torch.cat([x, x[:1]])
            continue
        filler = False if field == "mask_BT" else -999 if x.dtype == torch.int64 else float("nan")
        rubbish = x if field == "mask_BT" else torch.where(tokens.mask_BT, x, filler)
        padded[field] = torch.nn.functional.pad(rubbish, (0, 3, 0, 1), value=filler)
    got = credit(name, overrides, rewards, replace(tokens, **padded))
    assert torch.equal(got[:-1, :-3], expected) and not got[-1].any() and not got[:, -3:].any()


@every_stage
@pytest.mark.parametrize("seed", range(3))
def test_order_of_rows_and_of_trajectories_does_not_matter(name: str, overrides: dict[str, object], seed: int) -> None:
    rewards, tokens = random_batch(seed)
    expected = credit(name, overrides, rewards, tokens)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(tokens.sequence_B), generator=generator)
    assert torch.allclose(credit(name, overrides, rewards, take(tokens, rows)), expected[rows], rtol=1e-12)
    order = torch.randperm(8, generator=generator)
    moved = {f.name: x[order] for f in fields(rewards) if isinstance(x := getattr(rewards, f.name), torch.Tensor)}
    renamed = replace(tokens, sequence_B=order.argsort()[tokens.sequence_B])
    got = credit(name, overrides, replace(rewards, **moved), renamed)
    assert torch.allclose(got, expected, rtol=1e-12)


@every_stage
def test_one_row_per_token_gives_the_same(name: str, overrides: dict[str, object]) -> None:
    rewards, tokens = random_batch(4)
    mask = tokens.mask_BT
    flat = {field: x[mask][:, None] for field, x in tensors(tokens).items() if field != "sequence_B"}
    flat["sequence_B"] = tokens.sequence_B[:, None].expand_as(mask)[mask]
    got = credit(name, overrides, rewards, replace(tokens, **flat))
    assert torch.allclose(got[:, 0], credit(name, overrides, rewards, tokens)[mask], rtol=1e-12)


@every_stage
def test_groups_do_not_look_at_each_other(name: str, overrides: dict[str, object]) -> None:
    if overrides.get("estimator") == "reinforce" or (name == "ppo_mean" and "estimator" not in overrides):
        overrides = {**overrides, "baseline": "zero"}  # a batch mean does look
    if overrides.get("estimator") in ("gae", "oases"):
        overrides = {**overrides, "whiten_advantages": False}  # so does the mean over all tokens
    rewards, tokens = random_batch(5)
    expected = credit(name, overrides, rewards, tokens)
    first = torch.arange(4)
    alone = {f.name: x[first] for f in fields(rewards) if isinstance(x := getattr(rewards, f.name), torch.Tensor)}
    mine = tokens.sequence_B < 4
    got = credit(name, overrides, replace(rewards, **alone), take(tokens, mine))
    assert torch.allclose(got, expected[mine], rtol=1e-12)


@every_stage
def test_nothing_carries_gradient_and_single_precision_agrees(name: str, overrides: dict[str, object]) -> None:
    rewards, tokens = random_batch(6)
    leaves = {f: x.clone().requires_grad_() for f, x in tensors(tokens).items() if x.is_floating_point()}
    live = replace(rewards, reward_B=rewards.reward_B.clone().requires_grad_())
    got = credit(name, overrides, live, replace(tokens, **leaves))
    assert not got.requires_grad and got.dtype == torch.float64
    single, floats = random_batch(6, torch.float32)
    low = replace(floats, **{f: x.detach().float() for f, x in leaves.items()})
    assert torch.allclose(credit(name, overrides, single, low).double(), got, rtol=1e-4, atol=1e-6)


def test_without_further_stages_every_token_has_the_advantage_of_its_trajectory() -> None:
    rewards, tokens = random_batch(7)
    algorithm = build("rloo", {"kl_beta": 0})
    report = algorithm.advantages(rewards)
    got = algorithm.credit(report, rewards, tokens)
    assert torch.equal(got.advantage_BT, report.advantage_B[tokens.sequence_B][:, None] * tokens.mask_BT)
    assert got.diagnostics == {}


def test_modulator_and_credit_commute_and_both_report() -> None:
    # aem keeps the mean coefficient of a group, dgpo the mean weight of a response: together they multiply.
    rewards, tokens = random_batch(8)
    plain = credit("reinforce", {}, rewards, tokens)
    algorithm = build("reinforce", {"modulator": "aem", "credit": "dgpo_hellinger"})
    both = algorithm.credit(algorithm.advantages(rewards), rewards, tokens)
    one = credit("reinforce", {"modulator": "aem"}, rewards, tokens)
    other = credit("reinforce", {"credit": "dgpo_hellinger"}, rewards, tokens)
    assert torch.allclose(both.advantage_BT * plain, one * other)
    assert {"aem_alpha_max", "dgpo_weight_max"} <= both.diagnostics.keys()


@pytest.mark.parametrize("estimator", ["grpo", "gigpo"])
def test_truncated_trajectories_may_be_dropped(estimator: str) -> None:
    rewards, tokens = random_batch(9)
    rewards = replace(rewards, truncated_B=torch.arange(8) % 3 == 0)
    overrides = {"estimator": estimator, "drop_truncated": True}
    algorithm = build("ppo_mean", overrides)
    assert "truncated_B" in algorithm.needs
    got = credit("ppo_mean", overrides, rewards, tokens)
    kept = credit("ppo_mean", {"estimator": estimator}, rewards, tokens)
    dropped = (tokens.sequence_B % 3 == 0)[:, None]
    assert kept[dropped.expand_as(kept)].any()
    assert torch.equal(got, torch.where(dropped, 0.0, kept))
    advantage = algorithm.advantages(rewards).advantage_B
    assert not advantage[::3].any()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_what_is_not_given_is_named(preset: object) -> None:
    name = preset.name  # type: ignore[attr-defined]
    algorithm = build(name)
    rewards, tokens = random_batch(10)
    report = algorithm.advantages(rewards)
    for field in algorithm.credit_needs:
        with pytest.raises(AlgorithmError, match=f"needs {field}"):
            algorithm.credit(report, rewards, replace(tokens, **{field: None}))
    for field in algorithm.needs & {f.name for f in fields(rewards)}:
        with pytest.raises(AlgorithmError, match=f"needs {field}"):
            algorithm.advantages(replace(rewards, **{field: None}))
    assert algorithm.credit_needs <= algorithm.needs


def test_a_stage_that_returns_the_wrong_shape_is_named() -> None:
    def broken(advantage_BT: torch.Tensor, batch: RewardBatch, tokens: TokenBatch) -> CreditReport:
        return CreditReport(advantage_BT=advantage_BT[:, :1], diagnostics={})

    algorithm = replace(build("reinforce"), modulator=ModulatorStage(name="broken", function=broken, summary="x"))
    rewards, tokens = rewards_of([1.0]), token_table([[0, 0]])
    with pytest.raises(AlgorithmError, match="one advantage for each token") as caught:
        algorithm.credit(algorithm.advantages(rewards), rewards, tokens)
    assert "broken" in str(caught.value.where)


def test_what_a_stage_writes_where_nothing_was_sampled_is_wiped() -> None:
    def careless(advantage_BT: torch.Tensor, batch: RewardBatch, tokens: TokenBatch) -> CreditReport:
        return CreditReport(advantage_BT=advantage_BT / tokens.mask_BT + 1, diagnostics={})

    algorithm = replace(build("reinforce"), modulator=ModulatorStage(name="careless", function=careless, summary="x"))
    rewards, tokens = rewards_of([1.0, 2.0]), token_table([[0, 0], [0]])
    got = algorithm.credit(algorithm.advantages(rewards), rewards, tokens).advantage_BT
    assert got.tolist() == [[2.0, 2.0], [3.0, 0.0]]
