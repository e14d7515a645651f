"""Where the weights are that are trained, with their gradients and optimiser: in this process, or in several.

Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from askesis.algorithms import Algorithm
from askesis.errors import CheckpointError
from askesis.learners.batch import Row
from askesis.learners.critic import Critic, CriticSettings
from askesis.learners.models import BatchScorer, Models
from askesis.learners.scoring import Scores
from askesis.learners.shares import Piece, Share, share_of
from askesis.learners.workers import Workers
from askesis.policy.loading import Policy

__all__ = ["Compute", "LearnerSettings", "LocalCompute", "needs_reference", "optimizer_states"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSettings:
    """Optimiser constants; see :class:`askesis.recipe.TrainingSection` for units and reasons."""

    lr: float
    schedule: str = "constant"
    warmup_steps: int = 0
    total_steps: int = 1
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    epochs: int = 1
    """Passes over each batch."""
    updates_per_step: int = 1
    """Optimiser steps in each pass; the batch is cut into this many parts, by group."""
    packed: bool = True
    """Score every distinct token once; False trains each branch on its own."""
    micro_batch_tokens: int = 2048
    threads: int = 1
    """Micro-batches computed side by side, on a core each, that share ``micro_batch_tokens``. It changes low-order bits
    only.
    """
    temperature: float = 1.0
    """Of the behaviour policy: the learner scores tokens under the distribution that they were drawn from."""
    truncated: bool = False
    """Sampling cut the distribution (top-k, top-p): recorded log-probabilities are not the learner's, so it computes
    them anew.
    """
    critic: CriticSettings | None = None
    """For algorithms that compare rewards with what was expected."""


class Compute(BatchScorer, ABC):
    """Weights, gradients and optimiser, wherever they are."""

    critic: Critic | None

    @abstractmethod
    def micro_batches(self, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
        """``rows`` cut into lists of indices that are computed at once."""

    @abstractmethod
    def accumulate(self, pieces: Sequence[Piece]) -> list[Share]:
        """Forget the gradient that was there and add up that of ``pieces``; their shares, in order, without graphs."""

    @abstractmethod
    def norm(self) -> float:
        """Of the gradient, the critic's included; it is forgotten."""

    @abstractmethod
    def step(self, lr: float) -> float:
        """One optimiser step along the clipped gradient; its norm before clipping, without the critic's.

        Where that is not finite, nothing is changed, and the gradient is forgotten.
        """

    @abstractmethod
    def publish(self) -> None:
        """The policy's tensors, which others sample from, become what was trained."""

    @abstractmethod
    def state_dict(self) -> dict[str, Tensor]:
        """Optimiser tensors as ``key/parameter``, and the critic's."""

    @abstractmethod
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the policy's present tensors and what :meth:`state_dict` gave. Raises CheckpointError."""

    def close(self) -> None:
        """End what was started."""


class LocalCompute(Compute):
    """In this process, on the policy's own tensors."""

    def __init__(self, policy: Policy, algorithm: Algorithm, settings: LearnerSettings) -> None:
        self._algorithm = algorithm
        self._settings = settings
        self._names = [name for name, _ in policy.trainable()]
        self._parameters = [parameter for _, parameter in policy.trainable()]
        betas = (settings.beta1, settings.beta2)
        self._optimizer = torch.optim.AdamW(
            self._parameters, lr=settings.lr, betas=betas, weight_decay=settings.weight_decay, fused=True
        )
        self.critic = None if settings.critic is None else Critic(policy.model, settings.critic, betas=betas)
        self._differentiated = [*self._parameters, *(self.critic.parameters if self.critic else ())]
        self._models = Models(
            policy,
            packed=settings.packed,
            temperature=settings.temperature,
            micro_batch_tokens=settings.micro_batch_tokens,
            has_reference=needs_reference(algorithm),
            head=self.critic.head if self.critic else None,
        )
        # Others switch the model's own attention, or its adapters, while they compute.
        self._workers = Workers(settings.threads if self._models.scorer.is_thread_safe else 1)

    @property
    def vocabulary(self) -> int:
        """Width of the logits."""
        return self._models.vocabulary

    def scores(self, rows: Sequence[Row], *, packed: bool | None = None) -> Scores:
        """See :meth:`Models.scores`."""
        return self._models.scores(rows, packed=packed)

    def reference_logp(self, rows: Sequence[Row]) -> Tensor:
        """See :meth:`Models.reference_logp`."""
        return self._models.reference_logp(rows)

    def distance(self, rows: Sequence[Row], between: Callable[[Tensor, Tensor, float], Tensor]) -> Tensor:
        """See :meth:`Models.distance`."""
        return self._models.distance(rows, between)

    def micro_batches(self, rows: Sequence[Row], max_tokens: int) -> list[list[int]]:
        """See :meth:`Compute.micro_batches`; threads share the tokens."""
        threads = self._workers.threads
        return list(self._models.scorer.micro_batches(rows, max(max_tokens // threads, 1), at_least=threads))

    def accumulate(self, pieces: Sequence[Piece]) -> list[Share]:
        """See :meth:`Compute.accumulate`. Gradients are added in order, whichever piece is done first."""
        self._forget()

        def differentiate(piece: Piece) -> tuple[Share, tuple[Tensor | None, ...]]:
            reads_reference = "logp_ref_BT" in self._algorithm.needs and piece.passed_BT is None
            scores = self._models.scorer(piece.rows)
            reference_BT = self._models.reference_logp(piece.rows) if reads_reference else None
            share = share_of(piece, scores, self._algorithm, reference_BT, self._settings.critic)
            grads = torch.autograd.grad(share.to_differentiate, self._differentiated, allow_unused=True)
            return share._replace(to_differentiate=share.to_differentiate.detach()), grads

        shares = []
        for share, grads in self._workers.map(differentiate, pieces):
            shares.append(share)
            for parameter, grad in zip(self._differentiated, grads, strict=True):
                if grad is not None and parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter).copy_(grad)  # fused AdamW wants the parameter's layout
                elif grad is not None and parameter.grad is not None:
                    parameter.grad.add_(grad)
        return shares

    def norm(self) -> float:
        """See :meth:`Compute.norm`."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self._differentiated if p.grad is not None])
        self._forget()
        return float(norm)

    def step(self, lr: float) -> float:
        """See :meth:`Compute.step`."""
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.max_grad_norm))
        if not math.isfinite(norm):
            self._forget()
            return norm
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._optimizer.step()
        if self.critic is not None:
            self.critic.step(lr / self._settings.lr, max_grad_norm=self._settings.max_grad_norm)
        return norm

    def publish(self) -> None:
        """They are the same tensors."""

    def state_dict(self) -> dict[str, Tensor]:
        """See :meth:`Compute.state_dict`."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in zip(self._names, self._parameters, strict=True):
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{key}/{name}"] = value.detach().clone().contiguous()
        return tensors | (self.critic.state_dict() if self.critic is not None else {})

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """See :meth:`Compute.load_state_dict`."""
        if self.critic is not None:
            self.critic.load_state_dict(tensors)
        states = optimizer_states(tensors, self._names)
        for name, parameter in zip(self._names, self._parameters, strict=True):
            if name in states:
                self._optimizer.state[parameter] = {
                    key: t.clone() if key == "step" else t.to(parameter.device, copy=True)
                    for key, t in states[name].items()
                }

    def _forget(self) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        if self.critic is not None:
            self.critic.zero_grad()


def needs_reference(algorithm: Algorithm) -> bool:
    """It compares the policy with the weights that it started from."""
    return bool(algorithm.needs & {"logp_ref_BT", "kl_B", "hellinger_BT"})


def optimizer_states(tensors: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    """Of :meth:`Compute.state_dict`, by parameter and key. Raises CheckpointError for a parameter not among them."""
    states: dict[str, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        key, _, name = place.partition("/")
        if Critic.is_own(place):
            continue
        if name not in names:
            raise CheckpointError("the optimiser's state belongs to another model", got=place)
        states.setdefault(name, {})[key] = tensor
    return states
