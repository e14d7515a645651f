"""What the stages of an algorithm hand to each other.

Shape legend, used in every module of this package:

    B   rows of a batch; for rewards one row per trajectory, for tokens one row per branch of a trajectory
    T   sampled tokens of a row, in order, padding included
    G   distinct groups
    S   distinct sequences; a sequence is all the rows of a trajectory
    R   distinct responses; a response is what one model call of a trajectory drew
    N   tokens, without rows
    V   tokens of the vocabulary

Log-probabilities are in nats. Tensors are float32 (float64 is accepted, for tests); masks are bool, True exactly on the
tokens that the policy sampled; ids are int64 and may be any numbers in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

__all__ = [
    "AdvantageReport",
    "CreditReport",
    "LossInputs",
    "LossResult",
    "LossTerms",
    "RewardBatch",
    "Sums",
    "TokenBatch",
    "add_diagnostics",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """A mean in two parts, so that it adds up over micro-batches and ranks: add first, divide last."""

    total: Tensor
    """[] sum of the quantity."""
    count: Tensor
    """[] how many tokens it was summed over."""

    def __add__(self, other: Sums) -> Sums:
        return Sums(total=self.total + other.total, count=self.count + other.count)

    def mean(self) -> float | None:
        """The mean; None when nothing was counted. Waits for the device."""
        count = float(self.count)
        return float(self.total) / count if count else None


def add_diagnostics(parts: Iterable[Mapping[str, Sums]]) -> dict[str, Sums]:
    """The diagnostics of several micro-batches as those of one."""
    whole: dict[str, Sums] = {}
    for part in parts:
        for name, sums in part.items():
            whole[name] = whole[name] + sums if name in whole else sums
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardBatch:
    """The judged trajectories of one batch. A trajectory without a reward is left out; it is never 0."""

    reward_B: Tensor
    """[B] float."""
    group_B: Tensor
    """[B] int64: trajectories with the same id answered the same prompt."""
    kl_B: Tensor | None = None
    """[B] float, :func:`askesis.algorithms.kl.reward_kl`; needed when the KL penalty is part of the reward."""
    moving_reward: float | None = None
    """:attr:`AdvantageReport.moving_reward` of the batch before; None for the first."""
    progress: float | None = None
    """The share of the training's steps that is done, 0 at the first and 1 after the last; read by schedules."""
    length_B: Tensor | None = None
    """[B] int64: sampled tokens of the trajectory."""
    truncated_B: Tensor | None = None
    """[B] bool: the trajectory was stopped by a limit on its length."""
    num_turns_B: Tensor | None = None
    """[B] int64: model calls of the trajectory."""
    is_answer_B: Tensor | None = None
    """[B] bool: not a trajectory but an answer that was drawn from one of its states; None when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvantageReport:
    """Advantages, and what the caller should warn about or chart."""

    advantage_B: Tensor
    """[B] as the rewards; carries no gradient."""
    num_groups: int
    num_singleton_groups: int
    """Groups of one trajectory: nothing to compare it with."""
    num_zero_variance_groups: int
    """Groups of two or more whose rewards, before any KL penalty, are all equal: they teach nothing."""
    moving_reward: float
    """Moving average of the batch means (decay 0.9, KL penalty included). State: give it to the next batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """The sampled tokens of all trajectories of a :class:`RewardBatch`; nothing carries gradient.

    Every sampled token stands in one row only. Values under a False mask are never read and may be anything. The
    optional fields are given when ``Algorithm.credit_needs`` names them.
    """

    mask_BT: Tensor
    """[B, T] bool."""
    sequence_B: Tensor
    """[B] int64: the row of the reward batch that this row of tokens belongs to."""
    turn_BT: Tensor
    """[B, T] int64: number of the model call within its trajectory; the tokens of one response share it."""
    logp_behaviour_BT: Tensor
    """[B, T] float: log-probability under the policy that sampled."""
    logp_old_BT: Tensor | None = None
    """[B, T] float: the same under the learner's weights before this step's first update."""
    entropy_BT: Tensor | None = None
    """[B, T] float: entropy of the learner's distribution before this step's first update, at the sampling temperature,
    in nats: :func:`askesis.algorithms.distributions.entropy`.
    """
    logp_ref_BT: Tensor | None = None
    """[B, T] float: log-probability under the reference policy."""
    hellinger_BT: Tensor | None = None
    """[B, T] float: :func:`askesis.algorithms.distributions.hellinger` between those weights and the reference."""
    anchor_BT: Tensor | None = None
    """[B, T] int64: equal ids mean the same state of the environment before the token's turn."""
    step_reward_BT: Tensor | None = None
    """[B, T] float: what the environment paid for the token's turn, the same number at all tokens of the turn. Where an
    environment pays only at the end, that is the reward at the last turn and 0 before.
    """
    value_BT: Tensor | None = None
    """[B, T] float: what a critic expects of the rewards from the token on, before it is drawn."""
    state_BT: Tensor | None = None
    """[B, T] int64: number of the state (counted from 0) that the token acts in; it never falls along a trajectory."""
    gain_BT: Tensor | None = None
    """[B, T] float: how much more an answer is worth in the next state than in the token's own, the same number at all
    tokens that act in one state; 0 where no state follows.
    """
    vocab_size: int | None = None
    """V, the number of tokens that entropies and distances were summed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditReport:
    """Advantages per token, and numbers to chart."""

    advantage_BT: Tensor
    """[B, T] as the tokens, 0 where the mask is False; carries no gradient."""
    diagnostics: Mapping[str, float]
    return_BT: Tensor | None = None
    """[B, T] what a critic is to predict, 0 where the mask is False; None for an estimator without a critic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """The tokens of one micro-batch. Values under a False mask are never read and may be anything."""

    logp_new_BT: Tensor
    """[B, T] float: log-probability under the weights being trained; the only input that receives gradient."""
    logp_behaviour_BT: Tensor
    """[B, T] float: the same under the policy that sampled."""
    advantage_BT: Tensor
    """[B, T] float: :attr:`CreditReport.advantage_BT`, the rows of this micro-batch."""
    mask_BT: Tensor
    """[B, T] bool."""
    weight_BT: Tensor
    """[B, T] float: this micro-batch's part of :meth:`askesis.algorithms.Algorithm.token_weights`."""
    logp_ref_BT: Tensor | None = None
    """[B, T] float: the same under the reference policy. Given when ``Algorithm.needs`` names it."""
    sequence_B: Tensor | None = None
    """[B] int64: which sequence a row belongs to. Given when ``Algorithm.needs`` names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossTerms:
    """What an objective returns: nothing is divided by a batch size yet."""

    per_token_BT: Tensor
    """[B, T] loss to minimise, 0 where the mask is False."""
    diagnostics: Mapping[str, Sums]
    """Sums over the sampled tokens; they carry no gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossResult:
    """A micro-batch's share of the loss of the whole batch."""

    loss: Tensor
    """[] scalar with gradient. The shares of all micro-batches add up to the loss of the batch."""
    diagnostics: Mapping[str, Sums]
