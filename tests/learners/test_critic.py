"""The critic: its loss, its gradient in the policy's body, its state, and the two layouts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from askesis.algorithms import build
from askesis.engines import Request, Sampling
from askesis.engines.embedded import sample_batch
from askesis.errors import AlgorithmError, CheckpointError
from askesis.learners import CriticSettings, GradientLearner, LearnerSettings, Sample, rows_of
from askesis.learners.critic import ValueHead, explained_variance, value_loss
from askesis.learners.packed import PackedScorer
from askesis.learners.padded import PaddedScorer
from askesis.policy.loading import Policy, load_policy, weights_hash
from askesis.trace import Call, StopReason, TraceBuilder

Fresh = Callable[[], Policy]


def samples(policy: Policy, *, size: int = 4) -> list[Sample]:
    """Trajectories of two calls that share their prompts; the reward is the share of even tokens of the last."""
    found = []
    for number in range(size):
        first = [3, 4, 5 + number % 2]
        calls = []
        for key, length in enumerate((4, 3 + number)):
            context = first if key == 0 else [*first, *calls[0].sampled.tolist(), 9]
            request = Request(
                prefix=tuple(context),
                sampling=Sampling(max_tokens=length),
                stop_ids=policy.template.stop_ids,
                seed=10 * number + key,
            )
            (done,) = sample_batch(policy, [request])
            calls.append(Call(key=key, context=context, sampled=done.tokens, logprobs=done.logprobs))
        last = calls[-1].sampled
        trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
        reward = float((last % 2 == 0).mean())
        found.append(Sample(trace_id=str(number), trace=trace, reward=reward, group=number // 2))
    return found


def learner(policy: Policy, critic: CriticSettings | None = None, **changes: object) -> GradientLearner:
    settings = LearnerSettings(
        **{"lr": 1e-3, "total_steps": 10, "critic": critic or CriticSettings(), **changes}  # type: ignore[arg-type]
    )
    return GradientLearner(policy, build("ppo", {"kl_beta": 0.0}), settings)


def test_the_loss_is_half_the_larger_squared_error() -> None:
    new, old, target = torch.tensor([[1.0, 1.0, 0.2]]), torch.tensor([[0.0, 0.8, 0.0]]), torch.tensor([[2.0, 2.0, 0.0]])
    # The first has moved by more than the bound: its error is that of 0.5, and its gradient is 0.
    live = new.requires_grad_()
    loss = value_loss(live, old, target, clip=0.5)
    assert loss[0].tolist() == pytest.approx([1.125, 0.5, 0.02])
    (grad,) = torch.autograd.grad(loss.sum(), live)
    assert grad[0].tolist() == pytest.approx([0.0, -1.0, 0.2])
    assert value_loss(new, old, target, clip=None)[0].tolist() == pytest.approx([0.5, 0.5, 0.02])


def test_explained_variance() -> None:
    mask = torch.tensor([[True, True, False]])
    target = torch.tensor([[0.0, 1.0, 50.0]])
    assert explained_variance(target, target, mask) == 1.0
    assert explained_variance(torch.full((1, 3), 0.7), target, mask) == pytest.approx(0.0)
    assert explained_variance(target, torch.ones(1, 3), mask) is None


def test_the_weight_scales_the_bodys_gradient_and_not_the_heads() -> None:
    hidden = torch.tensor([[1.0, 2.0]], requires_grad=True)
    gradients = []
    for weight in (1.0, 0.25, 0.0):
        head = ValueHead(2, body_weight=weight, device=torch.device("cpu"))
        with torch.no_grad():
            head.weight.copy_(torch.tensor([3.0, -1.0]))
        value = head(hidden)
        assert value.tolist() == [1.0]
        gradients.append(torch.autograd.grad(value.sum(), [hidden, head.weight]))
    assert [g[0][0].tolist() for g in gradients] == [[3.0, -1.0], [0.75, -0.25], [0.0, 0.0]]
    assert all(g[1].tolist() == [1.0, 2.0] for g in gradients)


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma"])
def test_both_layouts_give_the_same_values_and_gradients(architecture: str, tmp_path: Path) -> None:
    from tiny_model import write_tiny_model

    policy = load_policy(str(write_tiny_model(tmp_path / "m", architecture=architecture)), device="cpu")
    rows = rows_of(samples(policy))
    head = ValueHead(32, body_weight=1.0, device=policy.device)
    with torch.no_grad():
        head.weight.copy_(torch.linspace(-1, 1, 32))
        head.bias.fill_(0.5)
    found = []
    for kind in (PackedScorer, PaddedScorer):
        value_BT = kind(policy.model, temperature=0.7, head=head)(rows).value_BT
        assert value_BT is not None
        tensors = [*head.parameters(), *(p for _, p in policy.trainable())]
        grads = torch.autograd.grad(value_BT.square().sum(), tensors, allow_unused=True)
        found.append((value_BT.detach(), torch.cat([g.flatten() for g in grads if g is not None])))
    (packed, packed_grad), (padded, padded_grad) = found
    assert float(padded.abs().max()) > 0.1
    assert torch.allclose(packed, padded, atol=1e-5)
    assert float((packed_grad - padded_grad).norm()) < 1e-5 * float(padded_grad.norm())


def test_the_value_of_a_token_does_not_know_the_token(tiny: Policy) -> None:
    (sample,) = samples(tiny, size=1)
    call = sample.trace.calls[-1]
    changed = replace(call, sampled=np.array([*call.sampled[:-1], call.sampled[-1] ^ 1]))
    other = replace(sample, trace=TraceBuilder([sample.trace.calls[0], changed]).finish(StopReason.TERMINATED))
    agent = learner(tiny)
    assert agent.critic is not None
    with torch.no_grad():
        agent.critic.head.weight.fill_(1.0)
    values = [agent.compute.scores(rows_of([s])).value_BT for s in (sample, other)]
    assert values[0] is not None and values[1] is not None and torch.equal(values[0], values[1])


def test_it_learns_what_follows(tiny: Policy) -> None:
    batch = samples(tiny, size=6)
    agent = learner(tiny, critic=CriticSettings(lr=0.05, loss_weight=0.0, clip=None), lr=1e-9)
    first = agent.update(batch).metrics
    for _ in range(30):
        last = agent.update(batch).metrics
    assert first["explained_variance"] is not None and last["explained_variance"] is not None
    assert first["explained_variance"] == pytest.approx(0.0) and last["explained_variance"] > 0.1
    assert last["value_loss"] is not None and first["value_loss"] is not None
    assert last["value_loss"] < 0.9 * first["value_loss"]


def test_a_critic_that_only_reads_leaves_the_policys_gradient_alone(fresh_tiny: Fresh) -> None:
    norms = []
    for weight in (0.0, 1.0):
        policy = fresh_tiny()
        agent = learner(policy, critic=CriticSettings(lr=0.1, loss_weight=weight))
        batch = samples(policy)
        agent.update(batch)  # from now on the head is not zero
        agent.update(batch)
        norms.append(weights_hash(policy.model))
    assert norms[0] != norms[1]
    plain, reading = fresh_tiny(), fresh_tiny()
    batch = samples(plain)
    # With a head at zero all values are 0: the update is that of the same algorithm whatever the critic's rate.
    learner(plain, critic=CriticSettings(lr=1e-9, loss_weight=0.0)).update(batch)
    learner(reading, critic=CriticSettings(lr=1.0, loss_weight=0.0)).update(batch)
    assert weights_hash(plain.model) == weights_hash(reading.model)


@pytest.mark.parametrize("objective", [pytest.param("ppo_clip", marks=pytest.mark.opt_in), "vespo"])
def test_the_gradient_does_not_depend_on_the_cut_or_the_layout(objective: str, fresh_tiny: Fresh) -> None:
    """Also for an objective that needs whole trajectories, whose loss is differentiated in two passes."""
    norms = []
    for packed in (True, False):
        policy = fresh_tiny()
        settings = LearnerSettings(lr=1e-3, critic=CriticSettings(loss_weight=1.0), packed=packed)
        agent = GradientLearner(policy, build("ppo", {"kl_beta": 0.0, "objective": objective}), settings)
        assert agent.critic is not None
        with torch.no_grad():
            agent.critic.head.weight.fill_(0.3)
        norms += [agent.gradient_norm(samples(policy), micro_batch_tokens=n) for n in (12, 1 << 20)]
    assert norms == pytest.approx([norms[0]] * 4, rel=1e-4)


def test_saved_and_restored_it_goes_on_bit_for_bit(fresh_tiny: Fresh) -> None:
    policy = fresh_tiny()
    batches = [samples(policy), samples(policy, size=5)]
    agent = learner(policy, schedule="cosine")
    agent.update(batches[0])
    weights = copy.deepcopy(policy.model.state_dict())
    tensors, values = agent.state_dict()
    agent.update(batches[1])
    fresh = fresh_tiny()
    fresh.model.load_state_dict(weights)
    resumed = learner(fresh, schedule="cosine")
    resumed.load_state_dict(tensors, values)
    resumed.update(batches[1])
    assert weights_hash(fresh.model) == weights_hash(policy.model)
    assert agent.critic is not None and resumed.critic is not None
    assert torch.equal(agent.critic.head.weight, resumed.critic.head.weight)
    assert float(agent.critic.head.weight.detach().abs().sum()) > 0


def test_a_checkpoint_without_a_critic_is_refused(tiny: Policy) -> None:
    tensors, values = learner(tiny).state_dict()
    bare = {key: tensor for key, tensor in tensors.items() if not key.startswith("critic:")}
    with pytest.raises(CheckpointError, match="no critic"):
        learner(tiny).load_state_dict(bare, values)


def test_an_algorithm_that_needs_one_says_so_when_it_is_built(tiny: Policy) -> None:
    with pytest.raises(AlgorithmError, match="there is no critic") as caught:
        GradientLearner(tiny, build("ppo"), LearnerSettings(lr=1e-3))
    assert caught.value.next_step is not None and "learner.critic.kind=linear" in caught.value.next_step


def test_it_is_saved_beside_the_model(tiny: Policy, tmp_path: Path) -> None:
    agent = learner(tiny)
    agent.update(samples(tiny))
    assert agent.critic is not None
    agent.critic.save(tmp_path / "critic.safetensors")
    saved = load_file(tmp_path / "critic.safetensors")
    assert saved.keys() == {"weight", "bias"} and torch.equal(saved["weight"], agent.critic.head.weight.detach())
    with pytest.raises(CheckpointError, match="cannot be written"):
        agent.critic.save(tmp_path / "nowhere" / "critic.safetensors")


def test_the_critics_rate_follows_the_schedule(tiny: Policy) -> None:
    agent = learner(tiny, schedule="linear", total_steps=2)
    assert agent.critic is not None
    batch, moved = samples(tiny), []
    for _ in range(3):
        before = agent.critic.head.bias.detach().clone()
        agent.update(batch)
        moved.append(float((agent.critic.head.bias.detach() - before).abs()))
    assert moved[0] == pytest.approx(1e-3, rel=1e-3) and moved[2] == 0.0  # AdamW's first step is its rate
    assert math.isfinite(moved[1])
