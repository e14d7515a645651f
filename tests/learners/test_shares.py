"""What micro-batches are cut into. That shares add up however they are cut: tests/learners/test_gradient.py."""

from __future__ import annotations

import pytest
import torch

from askesis.algorithms import build
from askesis.learners.critic import CriticSettings
from askesis.learners.scoring import Scores
from askesis.learners.shares import Piece, policy_loss, share_of

LOGP = torch.tensor([[-1.0, -2.0], [-3.0, 0.0]])
MASK = torch.tensor([[True, True], [True, False]])


def piece(**changes: torch.Tensor) -> Piece:
    return Piece(
        cut=[3, 1],
        rows=(),
        behaviour_BT=LOGP,
        advantage_BT=torch.tensor([[1.0, 1.0], [-2.0, 0.0]]),
        mask_BT=MASK,
        weight_BT=torch.full((2, 2), 0.25) * MASK,
        sequence_B=torch.tensor([0, 1]),
        **changes,
    )


def scores(value: float | None = None) -> Scores:
    entropy = torch.tensor([[0.5, 1.5], [1.0, 0.0]])
    value_BT = None if value is None else torch.full((2, 2), value, requires_grad=True) * MASK
    return Scores(LOGP.clone().requires_grad_(), entropy, value_BT)


def test_the_policys_loss_with_its_entropy() -> None:
    """On policy, PPO's loss is -advantage for each token: 0.25 * (-1 - 1 + 2) = 0."""
    result = policy_loss(piece(), scores(), build("grpo", {"kl_beta": 0.0}), None)
    assert float(result.loss.detach()) == pytest.approx(0.0)
    assert result.diagnostics["entropy"].mean() == pytest.approx(1.0)


def test_a_gradient_that_is_known_is_passed_on() -> None:
    passed, given = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), scores()
    share = share_of(piece(passed_BT=passed), given, build("grpo", {"kl_beta": 0.0}), None, None)
    (grad,) = torch.autograd.grad(share.to_differentiate, given.logp_BT)
    assert torch.equal(grad, passed)
    assert (share.loss, share.diagnostics, share.cut) == (0.0, {}, [3, 1])
    assert not share.logp_BT.requires_grad


def test_a_critics_share_is_added() -> None:
    """Half the squared error, 0.5 * (2 - 1)^2, of three tokens with weight 1/3 each."""
    tables = {
        "return_BT": torch.full((2, 2), 1.0),
        "value_old_BT": torch.full((2, 2), 2.0),
        "value_weight_BT": torch.full((2, 2), 1 / 3),
    }
    algorithm = build("grpo", {"kl_beta": 0.0})
    share = share_of(piece(**tables), scores(2.0), algorithm, None, CriticSettings(clip=None))
    assert float(share.to_differentiate.detach()) == pytest.approx(0.5)
    assert share.loss == pytest.approx(0.0)  # of the policy alone
    assert share.diagnostics["value_mean"].mean() == pytest.approx(2.0)
