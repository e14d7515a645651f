"""Whole algorithms: against a slow reference, on-policy, and however the batch is cut, padded or ordered."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.algorithms import Algorithm, Denominators, LossInputs, RewardBatch, Sums, add_diagnostics, build
from askesis.errors import AlgorithmError

PRESETS = ("reinforce", "rloo", "grpo", "dr_grpo")
VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((name, {}) for name in PRESETS),
    ("grpo", {"dual_clip": 3, "clip_high": 0.28, "aggregation": "token_mean", "kl_estimator": "k2"}),
    ("rloo", {"importance_weighted": True}),
]


def random_inputs(algorithm: Algorithm, seed: int, rows: int = 5, columns: int = 4) -> tuple[LossInputs, torch.Tensor]:
    """A batch in float64 whose sequences span rows, and the leaf that receives its gradient."""
    generator = torch.Generator().manual_seed(seed)
    new, behaviour, ref, advantage = torch.randn(4, rows, columns, dtype=torch.float64, generator=generator)
    mask = torch.rand(rows, columns, generator=generator) < 0.7
    sequence = torch.randint(0, 3, (rows,), generator=generator)
    leaf = (-new.abs()).requires_grad_()
    inputs = LossInputs(
        logp_new_BT=leaf,
        logp_behaviour_BT=leaf.detach() + 0.4 * behaviour,
        advantage_BT=advantage,
        mask_BT=mask,
        weight_BT=algorithm.token_weights(mask, sequence),
        logp_ref_BT=leaf.detach() + ref if "logp_ref_BT" in algorithm.needs else None,
        sequence_B=sequence,
    )
    return inputs, leaf


def take(inputs: LossInputs, rows: torch.Tensor) -> LossInputs:
    tensors = {f.name: getattr(inputs, f.name) for f in fields(inputs)}
    return LossInputs(**{name: None if x is None else x[rows] for name, x in tensors.items()})


def gradient(loss: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, leaf, retain_graph=True)[0]


def slow_loss(algorithm: Algorithm, inputs: LossInputs) -> float:
    """The formulas of the papers, token by token, in plain Python floats."""
    assert inputs.sequence_B is not None
    ids = inputs.sequence_B.tolist()
    mask = inputs.mask_BT.tolist()
    tokens: dict[int, int] = {}
    for b, row in enumerate(mask):
        tokens[ids[b]] = tokens.get(ids[b], 0) + sum(row)
    num_sequences = sum(1 for n in tokens.values() if n)
    divisor = {
        "token_mean": lambda _: sum(tokens.values()),
        "seq_mean_token_mean": lambda b: tokens[ids[b]] * num_sequences,
        "seq_mean_token_sum": lambda _: num_sequences,
        "seq_mean_token_sum_norm": lambda _: num_sequences * (algorithm.norm_length or 0),
    }[algorithm.aggregation.value]
    return math.fsum(
        slow_token(algorithm, inputs, b, t) / divisor(b) for b, row in enumerate(mask) for t, m in enumerate(row) if m
    )


def slow_token(algorithm: Algorithm, inputs: LossInputs, b: int, t: int) -> float:
    new, a = inputs.logp_new_BT[b, t].item(), float(inputs.advantage_BT[b, t])
    ratio = math.exp(new - float(inputs.logp_behaviour_BT[b, t]))
    params = algorithm.params
    if algorithm.objective.name == "reinforce":
        loss = -a * (ratio if params["importance_weighted"] else new)
    else:
        low, high, dual = (algorithm.objective_params[k] for k in ("clip_low", "clip_high", "dual_clip"))
        loss = max(-a * ratio, -a * min(max(ratio, 1 - float(low or 0)), 1 + float(high or 0)))
        loss = min(loss, -a * float(dual)) if dual is not None and a < 0 else loss
    if inputs.logp_ref_BT is not None:
        u = float(inputs.logp_ref_BT[b, t]) - new
        kl = {"k2": u * u / 2, "k3": min(math.exp(u) - u - 1, 10.0)}[str(params["kl_estimator"])]
        loss += algorithm.kl.beta * kl
    return loss


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_loss_is_that_of_the_slow_reference(name: str, overrides: dict[str, object], seed: int) -> None:
    algorithm = build(name, overrides)
    inputs, _ = random_inputs(algorithm, seed)
    assert algorithm.loss(inputs).loss.item() == pytest.approx(slow_loss(algorithm, inputs), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), parts=st.lists(st.integers(0, 3), min_size=5, max_size=5))
def test_any_cut_into_micro_batches_gives_the_same(
    name: str, overrides: dict[str, object], seed: int, parts: list[int]
) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, seed)
    whole = algorithm.loss(inputs)
    results = [algorithm.loss(take(inputs, torch.tensor(parts) == part)) for part in set(parts)]
    loss = torch.stack([result.loss for result in results]).sum()
    assert loss.item() == pytest.approx(whole.loss.item(), rel=1e-6, abs=1e-9)
    assert torch.allclose(gradient(loss, leaf), gradient(whole.loss, leaf), rtol=1e-6, atol=1e-9)
    sums = add_diagnostics(result.diagnostics for result in results)
    assert sums.keys() == whole.diagnostics.keys()
    for key, expected in whole.diagnostics.items():
        assert sums[key].mean() == pytest.approx(expected.mean(), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_padding_packing_and_order_do_not_matter(name: str, overrides: dict[str, object], seed: int) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, seed)
    expected = algorithm.loss(inputs)
    rubbish = {
        f.name: torch.nn.functional.pad(getattr(inputs, f.name), (2, 1, 0, 1), value=float("nan"))
        for f in fields(inputs)
        if f.name not in ("mask_BT", "sequence_B") and getattr(inputs, f.name) is not None
    }
    padded = replace(inputs, mask_BT=torch.nn.functional.pad(inputs.mask_BT, (2, 1, 0, 1)), **rubbish)
    shuffled = take(inputs, torch.tensor([3, 0, 4, 2, 1]))
    packed = LossInputs(
        **{
            f.name: None if getattr(inputs, f.name) is None else getattr(inputs, f.name)[inputs.mask_BT][:, None]
            for f in fields(inputs)
            if f.name != "sequence_B"
        }
    )
    for other in (padded, shuffled, packed):
        loss = algorithm.loss(other).loss
        assert loss.item() == pytest.approx(expected.loss.item(), rel=1e-9, abs=1e-12)
        assert torch.allclose(gradient(loss, leaf), gradient(expected.loss, leaf), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_on_policy_every_gradient_is_minus_weight_times_advantage(name: str, overrides: dict[str, object]) -> None:
    algorithm = build(name, {**overrides, "kl_beta": 0})
    inputs, leaf = random_inputs(algorithm, 1)
    inputs = replace(inputs, logp_behaviour_BT=leaf.detach())
    expected = -inputs.weight_BT * inputs.advantage_BT * inputs.mask_BT
    assert torch.allclose(gradient(algorithm.loss(inputs).loss, leaf), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_gradients_agree_with_finite_differences(name: str, overrides: dict[str, object]) -> None:
    algorithm = build(name, overrides)
    inputs, leaf = random_inputs(algorithm, 2)
    assert torch.autograd.gradcheck(lambda x: algorithm.loss(replace(inputs, logp_new_BT=x)).loss, (leaf,))


@pytest.mark.parametrize("name", PRESETS)
def test_masked_values_never_matter_and_only_the_new_policy_learns(name: str) -> None:
    algorithm = build(name)
    inputs, leaf = random_inputs(algorithm, 3)
    others = {
        f.name: torch.where(inputs.mask_BT, getattr(inputs, f.name), float("nan")).detach().requires_grad_()
        for f in fields(inputs)
        if f.name not in ("mask_BT", "sequence_B") and getattr(inputs, f.name) is not None
    }
    loss = algorithm.loss(replace(inputs, **others)).loss
    loss.backward()
    assert loss.item() == algorithm.loss(inputs).loss.item()
    new = others.pop("logp_new_BT")
    assert new.grad is not None and torch.equal(new.grad, gradient(algorithm.loss(inputs).loss, leaf))
    assert [other.grad for other in others.values()] == [None] * len(others)


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_sampled_gives_zero_loss_and_zero_gradient(name: str) -> None:
    algorithm = build(name)
    inputs, leaf = random_inputs(algorithm, 4)
    result = algorithm.loss(replace(inputs, mask_BT=torch.zeros_like(inputs.mask_BT)))
    assert result.loss.item() == 0.0 and not gradient(result.loss, leaf).any()
    assert result.diagnostics["ratio"].mean() is None
    empty = algorithm.loss(take(inputs, torch.zeros(0, dtype=torch.int64)))
    assert empty.loss.item() == 0.0 and not gradient(empty.loss, leaf).any()


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


def test_weights_of_a_part_of_the_batch_take_totals_of_the_whole() -> None:
    algorithm = build("grpo")
    mask = torch.tensor([[1, 1], [1, 0]], dtype=torch.bool)
    totals = Denominators(num_tokens=9, num_sequences=4)
    assert algorithm.token_weights(mask, torch.tensor([0, 1]), totals=totals).tolist() == [[0.125, 0.125], [0.25, 0]]
