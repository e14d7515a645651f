"""Whole algorithms: against a slow reference, on-policy, and however the batch is cut, padded or ordered.

The first half runs over every objective that there is; :mod:`cases` says which settings.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.cases import VARIANTS, gradient, random_inputs, slow_loss, take
from askesis.algorithms import Coupling, Denominators, LossInputs, RewardBatch, Sums, add_diagnostics, build
from askesis.errors import AlgorithmError

PRESETS = ("reinforce", "rloo", "grpo", "dr_grpo")
every_objective = pytest.mark.parametrize(("name", "overrides"), VARIANTS)


@every_objective
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_loss_is_that_of_the_slow_reference(name: str, overrides: dict[str, object], seed: int) -> None:
    algorithm = build(name, overrides)
    inputs, _ = random_inputs(algorithm, seed)
    assert algorithm.loss(inputs).loss.item() == pytest.approx(slow_loss(algorithm, inputs), rel=1e-5, abs=1e-9)


@every_objective
def test_the_gradient_is_the_finite_difference_with_the_detached_parts_held_fixed(
    name: str, overrides: dict[str, object]
) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, 2)
    got = gradient(algorithm.loss(inputs).loss, leaf)
    step = 1e-6
    for place in inputs.mask_BT.nonzero().tolist():
        moved = []
        for sign in (1, -1):
            logp = leaf.detach().clone()
            logp[tuple(place)] += sign * step
            moved.append(slow_loss(algorithm, replace(inputs, logp_new_BT=logp), frozen=inputs))
        assert float(got[tuple(place)]) == pytest.approx((moved[0] - moved[1]) / (2 * step), rel=2e-5, abs=1e-8)
    assert not got[~inputs.mask_BT].any()


@every_objective
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_any_cut_into_micro_batches_gives_the_same(
    name: str, overrides: dict[str, object], seed: int, parts: list[int]
) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, seed)
    assert inputs.sequence_B is not None
    part_B = torch.tensor(parts)
    if algorithm.couples is Coupling.SEQUENCE:  # then the cut may separate trajectories, not their rows
        part_B = part_B[inputs.sequence_B]
    whole = algorithm.loss(inputs)
    results = [algorithm.loss(take(inputs, part_B == part)) for part in set(part_B.tolist())]
    loss = torch.stack([result.loss for result in results]).sum()
    assert loss.item() == pytest.approx(whole.loss.item(), rel=1e-6, abs=1e-9)
    assert torch.allclose(gradient(loss, leaf), gradient(whole.loss, leaf), rtol=1e-6, atol=1e-9)
    sums = add_diagnostics(result.diagnostics for result in results)
    assert sums.keys() == whole.diagnostics.keys()
    for key, expected in whole.diagnostics.items():
        assert float(sums[key].count) == float(expected.count)
        assert float(sums[key].total) == pytest.approx(float(expected.total), rel=1e-5, abs=1e-9)


@every_objective
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_padding_packing_and_order_do_not_matter(name: str, overrides: dict[str, object], seed: int) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, seed)
    assert inputs.sequence_B is not None
    expected = algorithm.loss(inputs)
    rubbish = {
        f.name: torch.nn.functional.pad(getattr(inputs, f.name), (2, 1, 0, 1), value=float("nan"))
        for f in fields(inputs)
        if f.name not in ("mask_BT", "sequence_B") and getattr(inputs, f.name) is not None
    }
    padded = replace(
        inputs,
        mask_BT=torch.nn.functional.pad(inputs.mask_BT, (2, 1, 0, 1)),
        sequence_B=torch.cat([inputs.sequence_B * 1000 - 3, torch.tensor([99])]),
        **rubbish,
    )
    shuffled = take(inputs, torch.tensor([3, 0, 4, 2, 1]))
    packed = LossInputs(
        **{
            f.name: None if getattr(inputs, f.name) is None else getattr(inputs, f.name)[inputs.mask_BT][:, None]
            for f in fields(inputs)
            if f.name != "sequence_B"
        },
        sequence_B=inputs.sequence_B[:, None].expand_as(inputs.mask_BT)[inputs.mask_BT],
    )
    for other in (padded, shuffled, packed):
        loss = algorithm.loss(other).loss
        assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-9, abs=1e-12)
        assert torch.allclose(gradient(loss, leaf), gradient(expected.loss, leaf), rtol=1e-9, atol=1e-12)


@every_objective
def test_on_policy_every_gradient_is_minus_weight_times_advantage(name: str, overrides: dict[str, object]) -> None:
    algorithm = build(name, {**overrides, "kl_beta": 0})
    inputs, leaf = random_inputs(algorithm, 1)
    inputs = replace(inputs, logp_behaviour_BT=leaf.detach())
    expected = -inputs.weight_BT * inputs.advantage_BT * inputs.mask_BT
    assert torch.allclose(gradient(algorithm.loss(inputs).loss, leaf), expected, rtol=1e-12, atol=0)


@every_objective
def test_masked_values_never_matter_and_only_the_new_policy_learns(name: str, overrides: dict[str, object]) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, 3)
    others = {
        f.name: torch.where(inputs.mask_BT, getattr(inputs, f.name), float("nan")).detach().requires_grad_()
        for f in fields(inputs)
        if f.name not in ("mask_BT", "sequence_B") and getattr(inputs, f.name) is not None
    }
    result = algorithm.loss(replace(inputs, **others))
    result.loss.backward()
    assert result.loss.item() == algorithm.loss(inputs).loss.item()
    new = others.pop("logp_new_BT")
    assert new.grad is not None and torch.equal(new.grad, gradient(algorithm.loss(inputs).loss, leaf))
    assert [other.grad for other in others.values()] == [None] * len(others)
    assert not any(sums.total.requires_grad for sums in result.diagnostics.values())


@every_objective
def test_nothing_sampled_gives_zero_loss_and_zero_gradient(name: str, overrides: dict[str, object]) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, 4)
    result = algorithm.loss(replace(inputs, mask_BT=torch.zeros_like(inputs.mask_BT)))
    assert result.loss.item() == 0.0 and not gradient(result.loss, leaf).any()
    assert {sums.mean() for sums in result.diagnostics.values()} == {None}
    empty = algorithm.loss(take(inputs, torch.zeros(0, dtype=torch.int64)))
    assert empty.loss.item() == 0.0 and not gradient(empty.loss, leaf).any()


@every_objective
@pytest.mark.parametrize("gap", [-1e4, -60.0, 60.0, 1e4])
def test_no_ratio_is_so_extreme_that_a_loss_or_gradient_is_infinite(
    name: str, overrides: dict[str, object], gap: float
) -> None:
    algorithm = build(name, {**overrides, "kl_beta": 0})
    inputs, leaf = random_inputs(algorithm, 8)
    single = {f.name: getattr(inputs, f.name).float() for f in fields(inputs) if f.name.startswith("weight")}
    far = replace(inputs, logp_behaviour_BT=leaf.detach() - gap, logp_ref_BT=None, **single)
    result = algorithm.loss(far)
    assert torch.isfinite(result.loss) and torch.isfinite(gradient(result.loss, leaf)).all()


def test_zero_advantages_leave_only_the_kl_penalty() -> None:
    algorithm = build("grpo")
    inputs, _ = random_inputs(algorithm, 5)
    result = algorithm.loss(replace(inputs, advantage_BT=torch.zeros_like(inputs.advantage_BT)))
    kl = result.diagnostics["kl_new_ref"]
    assert isinstance(kl, Sums) and float(kl.total) > 0
    without_kl = slow_loss(build("grpo", {"kl_beta": 0}), replace(inputs, logp_ref_BT=None))
    assert result.loss.item() == pytest.approx(slow_loss(algorithm, inputs) - without_kl, rel=1e-5)


def test_bad_inputs_are_refused() -> None:
    algorithm = build("grpo")
    inputs, _ = random_inputs(algorithm, 6)
    with pytest.raises(AlgorithmError, match="needs logp_ref_BT"):
        algorithm.loss(replace(inputs, logp_ref_BT=None))
    with pytest.raises(AlgorithmError, match="needs sequence_B"):
        build("gspo").loss(replace(inputs, sequence_B=None))
    with pytest.raises(AlgorithmError, match="advantage_BT is NaN or infinite"):
        algorithm.loss(replace(inputs, advantage_BT=inputs.advantage_BT / 0, mask_BT=inputs.mask_BT | True))


def rewards(values: list[float], groups: list[int], **more: object) -> RewardBatch:
    return RewardBatch(reward_B=torch.tensor(values, dtype=torch.float32), group_B=torch.tensor(groups), **more)  # type: ignore[arg-type]


def test_a_report_counts_groups_that_teach_nothing() -> None:
    report = build("grpo").advantages(rewards([1, 0, 1, 1, 0, 0, 0], [5, 5, 8, 8, 2, 2, 9]))
    assert (report.num_groups, report.num_singleton_groups, report.num_zero_variance_groups) == (4, 1, 2)
    assert report.advantage_B.tolist() == pytest.approx([0.707106, -0.707106, 0, 0, 0, 0, 0], abs=1e-6)
    assert report.moving_reward == pytest.approx(3 / 7)


def test_a_penalty_in_the_reward_is_subtracted_before_the_estimator() -> None:
    batch = rewards([1, 1], [0, 0], kl_B=torch.tensor([2.0, 0.0]))
    report = build("rloo").advantages(batch)
    # Rewards .94 and 1; each is compared with the other.
    assert report.advantage_B.tolist() == pytest.approx([-0.06, 0.06], abs=1e-6)
    assert report.num_zero_variance_groups == 1
    assert report.moving_reward == pytest.approx(0.97)
    assert build("rloo", {"kl_beta": 0}).advantages(batch).advantage_B.tolist() == [0.0, 0.0]
    with pytest.raises(AlgorithmError, match="needs kl_B"):
        build("rloo").advantages(rewards([1, 1], [0, 0]))


def test_the_moving_average_is_carried_from_batch_to_batch() -> None:
    algorithm = build("reinforce", {"baseline": "moving_average"})
    first = algorithm.advantages(rewards([1, 0], [0, 0]))
    second = algorithm.advantages(rewards([1, 1], [0, 0], moving_reward=first.moving_reward))
    assert first.advantage_B.tolist() == [0.5, -0.5]
    assert second.advantage_B.tolist() == [0.5, 0.5]
    assert second.moving_reward == pytest.approx(0.9 * 0.5 + 0.1 * 1)


@pytest.mark.parametrize("name", PRESETS)
def test_a_reward_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(AlgorithmError, match="reward_B is NaN or infinite"):
        build(name, {"kl_beta": 0}).advantages(rewards([1, float("nan")], [0, 0]))


def test_grpo_becomes_dr_grpo_by_its_stages() -> None:
    one = build("grpo", {"estimator": "dr_grpo", "aggregation": "seq_mean_token_sum_norm", "kl_beta": 0})
    inputs, leaf = random_inputs(one, 7)
    other = build("dr_grpo")
    assert torch.equal(gradient(one.loss(inputs).loss, leaf), gradient(other.loss(inputs).loss, leaf))
    batch = rewards([2, -1, 0.5, 3], [0, 0, 0, 0])
    assert torch.equal(one.advantages(batch).advantage_B, other.advantages(batch).advantage_B)
    assert torch.equal(inputs.weight_BT, other.token_weights(inputs.mask_BT, torch.as_tensor(inputs.sequence_B)))


def test_dapo_without_clip_higher_shaping_and_sampling_is_grpo_by_token_mean() -> None:
    plain = {"clip_high": 0.2, "shaping": "none", "dynamic_sampling": False}
    one, other = build("dapo", plain), build("grpo", {"aggregation": "token_mean", "kl_beta": 0})
    inputs, leaf = random_inputs(one, 8)
    assert torch.equal(gradient(one.loss(inputs).loss, leaf), gradient(other.loss(inputs).loss, leaf))
    assert not torch.equal(
        gradient(build("dapo", {"clip_high": 2}).loss(inputs).loss, leaf), gradient(one.loss(inputs).loss, leaf)
    )
    batch = rewards([2, -1, 0.5, 3], [0, 0, 0, 0])
    assert torch.equal(one.advantages(batch).advantage_B, other.advantages(batch).advantage_B)
    assert one.params == other.params and one.stages == other.stages


def test_weights_of_a_part_of_the_batch_take_totals_of_the_whole() -> None:
    algorithm = build("grpo")
    mask = torch.tensor([[1, 1], [1, 0]], dtype=torch.bool)
    totals = Denominators(num_tokens=9, num_sequences=4, num_rows=4)
    assert algorithm.token_weights(mask, torch.tensor([0, 1]), totals=totals).tolist() == [[0.125, 0.125], [0.25, 0]]


def test_truncated_weights_stand_before_an_objective_without_its_own() -> None:
    """Ratios 1, e and 1/e with a cap of 2: the gradient of -w * A * logp is -w * A; a KL term is not weighed."""
    algorithm = replace(build("reinforce", {"kl_beta": 0.0, "importance_weighted": False}), max_weight=2.0)
    logp = torch.tensor([[-1.0, -1.0, -2.0, 0.0]], requires_grad=True)
    result = algorithm.loss(
        LossInputs(
            logp_new_BT=logp,
            logp_behaviour_BT=torch.tensor([[-1.0, -2.0, -1.0, 0.0]]),
            advantage_BT=torch.tensor([[1.0, 1.0, -1.0, 5.0]]),
            mask_BT=torch.tensor([[True, True, True, False]]),
            weight_BT=torch.ones(1, 4),
        )
    )
    (grad,) = torch.autograd.grad(result.loss, logp)
    low = 0.36787944
    assert grad[0].tolist() == pytest.approx([-1.0, -2.0, low, 0.0])
    assert float(result.loss.detach()) == pytest.approx(1.0 + 2.0 - 2 * low)
    assert result.diagnostics["capped"].mean() == pytest.approx(1 / 3)
    assert algorithm.describe()["max_weight"] == 2.0 and "max_weight" not in build("reinforce").describe()
    assert build("reinforce").corrects is False and build("grpo").corrects is True
