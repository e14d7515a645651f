"""Losses by hand and against automatic differentiation; features; the policy's spread."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from askesis.diffusion.actor_critic import (
    LARGEST_NOISE,
    Actor,
    Critic,
    Features,
    Rollout,
    actor_loss,
    advantages,
    critic_loss,
    make_network,
)
from askesis.diffusion.environment import State
from askesis.streams import generator


def row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def make_state(sigma: Tensor, difficulty: Tensor, clock: float = 0.25) -> State:
    x = torch.stack([sigma, -sigma, 2 * sigma], 1)
    return State(clock, x, sigma, torch.zeros_like(x), difficulty)


def features(full: bool = False) -> Features:
    return Features(sigma_max=100.0, sigma_min=0.01, sigma_data=1.0, full=full)


def test_features_by_hand() -> None:
    state = make_state(row(100.0, 1.0, -5.0), row(1.0, 1.0, 1.0))
    found = features(full=True)(state)
    assert found[:, 0].tolist() == [-0.5] * 3
    assert found[:, 1].tolist() == pytest.approx([1.0, 0.0, -1.0])  # below 0 counts as sigma_min
    assert found[:, 2].tolist() == pytest.approx([1.0, -0.98, -0.9998])
    assert float(found[1, 3]) == pytest.approx(2 / 3 / math.sqrt(2))
    assert float(found[1, 4]) == pytest.approx(math.sqrt(2) / math.sqrt(2))
    assert features()(state).shape == (3, 3)


def test_a_new_actor_walks_the_geometric_grid() -> None:
    actor = Actor(features(), make_network(3, 8, generator(0, "test")), base=10 * (1 - 0.5))
    state = make_state(row(100.0, 8.0), row(1.0, 1.0))
    assert actor.mean(features()(state), state.sigma_B).tolist() == pytest.approx([500.0, 40.0])


def test_the_spread_is_given_and_capped() -> None:
    actor = Actor(features(), make_network(3, 8, generator(0, "test")), base=1.0)
    state = make_state(row(10.0, 10.0), row(4.0, 1e-9))
    drawn, std = actor.act(state, 0.04, generator(1, "test"))
    assert std.tolist() == pytest.approx([math.sqrt(0.04 / 4), LARGEST_NOISE * 10])
    assert bool((drawn >= 0.2).all())


def test_the_value_ends_at_the_terminal_condition() -> None:
    network = make_network(3, 8, generator(0, "test"))
    with torch.no_grad():
        network[-1].bias.fill_(3.0)
    found = Critic(network).value(torch.zeros(3, 3, dtype=torch.float64), row(0.0, 0.5, 1.0), -2.0)
    assert found.tolist() == pytest.approx([1.0, -0.5, -2.0])


def test_advantages_by_hand() -> None:
    reward, value = row(-1.0, -2.0, -4.0)[:, None], row(5.0, 6.0, 8.0)[:, None]
    # increments: 6 - 5 - 1, 8 - 6 - 2, 10 - 8 - 4
    assert advantages(reward, value, 10.0, trace=0.0)[:, 0].tolist() == [0.0, 0.0, -2.0]
    assert advantages(reward, value, 10.0, trace=0.5)[:, 0].tolist() == [-0.5, -1.0, -2.0]
    # With the whole trajectory: terminal plus the rewards that follow, minus the value.
    assert advantages(reward, value, 10.0, trace=1.0)[:, 0].tolist() == [-2.0, -2.0, -2.0]


def make_rollout(drawn: Tensor, std: Tensor) -> Rollout:
    zeros = torch.zeros_like(drawn)
    return Rollout(zeros[..., None], zeros, drawn, std, zeros, zeros[0])


def test_the_actor_s_gradient_is_that_of_the_log_probability() -> None:
    rng = generator(3, "test")
    mean, drawn, advantage = (torch.from_numpy(rng.standard_normal((4, 5))) for _ in range(3))
    std = torch.from_numpy(rng.uniform(0.5, 2, (4, 5)))
    mean.requires_grad_()
    expected = torch.autograd.grad(-(torch.distributions.Normal(mean, std).log_prob(drawn) * advantage).mean(), mean)[0]
    found = torch.autograd.grad(actor_loss(mean, make_rollout(drawn, std), advantage), mean)[0]
    assert torch.allclose(found, expected)


def test_the_critic_s_gradient_is_minus_the_advantage_and_stops_there() -> None:
    value = row(1.0, 2.0)[:, None].requires_grad_()
    reward = row(-1.0, -1.0)[:, None]
    advantage = advantages(reward, value, 0.0, trace=0.0)
    gradient = torch.autograd.grad(critic_loss(value, advantage), value)[0]
    assert gradient[:, 0].tolist() == pytest.approx([0.0, 1.5])
    # A step down this gradient lowers values that were too high.


def test_networks_are_drawn_from_their_stream() -> None:
    first, same, other = (make_network(3, 4, generator(seed, "net")) for seed in (1, 1, 2))
    assert torch.equal(first[0].weight, same[0].weight) and not torch.equal(first[0].weight, other[0].weight)
    assert first[-1].weight.abs().max() == 0
