"""The learner that needs rewards only: no gradient, no optimiser state, no second copy of the weights.

Base ES (Qiu et al. 2025, arXiv 2509.24372, Algorithm 2): members are ``theta + sigma * eps(seed)``; the update is
``theta += alpha / N * sum_n z_n * eps(seed_n)`` with z-scored rewards.

ESSAM (Sun et al. 2026, arXiv 2602.01003; from the official code, the paper's own text was not available) evaluates two
populations on the same tasks. The first gives the displacement ``delta``, towards *lower* reward; the second is drawn
around ``theta + delta``, and its update is applied to ``theta``. So ``theta`` climbs where the worst of its
neighbourhood climbs.

    ESSAM    delta = - rho / N * sum_n z_n * eps(seed_n)
    ESSAM-F  delta = - rho * g / (|g| + 1e-12),  g = sum_n (R_n - mean R) / K * eps(seed_n), with K members only

The learner asks for a population and is told its scores. Whoever evaluates it needs seeds and gives back numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from askesis.errors import AlgorithmError
from askesis.learners.evolution.centre import Block, Centre
from askesis.learners.evolution.noise import Noise, seeded_noise
from askesis.learners.evolution.scores import centred, raw, z_scores
from askesis.learners.evolution.settings import EvolutionSettings
from askesis.policy.loading import Policy
from askesis.streams import seed_of

__all__ = ["Candidate", "EvolutionLearner", "Population"]

_NORM_EPSILON = 1e-12


class Candidate(NamedTuple):
    """A member of a population: the anchor's weights plus ``scale`` times the noise of ``seed``."""

    seed: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Members that are to be evaluated on the same tasks. ``stage`` 1 of two finds the displacement."""

    stage: int
    members: tuple[Candidate, ...]


class EvolutionLearner:
    """Changes the policy's weights in place; ``version`` counts the steps.

    Args:
        policy: its trainable parameters are what evolves: all of them, or LoRA adapters.
        settings: see :class:`EvolutionSettings`.
        folder: for the file that holds the centre, see :class:`Centre`.
        noise: another source of noise, for tests.
    """

    def __init__(
        self,
        policy: Policy,
        settings: EvolutionSettings,
        *,
        folder: Path | None = None,
        noise: Noise = seeded_noise,
    ) -> None:
        self.policy = policy
        self.settings = settings
        self.version = 0
        self._noise = noise
        self._centre = Centre(policy.trainable(), folder=folder)
        self._stage = 1
        self._metrics: dict[str, float | None] = {}

    def describe(self) -> dict[str, Any]:
        """What learns, for the report."""
        s = self.settings
        described: dict[str, Any] = {
            "learner": "evolution",
            "method": s.method,
            "population": s.population,
            "sigma": s.sigma,
            "alpha": s.alpha,
            "antithetic": s.antithetic,
            "compares": s.compares,
        }
        return described | ({} if s.method == "es" else {"rho": s.rho, "first_population": s.first_population})

    def ask(self) -> Population:
        """The population that is to be evaluated next."""
        s = self.settings
        size = s.first_population if self._stage < s.num_stages else s.population
        signs = (1.0, -1.0) if s.antithetic else (1.0,)
        pairs = range(size // len(signs))
        seeds = [seed_of(s.seed, "evolution", self.version, self._stage, pair) for pair in pairs]
        members = tuple(Candidate(seed, sign * s.sigma) for seed in seeds for sign in signs)
        return Population(stage=self._stage, members=members)

    @contextmanager
    def wearing(self, member: Candidate) -> Iterator[None]:
        """The policy has the weights of ``member`` inside this block, and those of the centre after it."""
        self.put_on(member)
        try:
            yield
        finally:
            self.restore()

    def put_on(self, member: Candidate) -> None:
        """Give the policy the weights of ``member``, whatever it has now."""
        self._centre.show(
            lambda block: self._noise_of(block, member.seed).mul_(member.scale), displaced=self._stage > 1
        )

    def applied_noise(self, member: Candidate) -> float:
        """Cosine between the noise of ``member`` and what the policy holds of it; 1 without rounding."""
        inner = applied = intended = 0.0
        for block in self._centre.blocks():
            held_N = block.weights.double() - self._centre.read(block, displaced=self._stage > 1)
            meant_N = self._noise_of(block, member.seed).double().mul_(member.scale)
            inner += float(held_N @ meant_N)
            applied += float(held_N @ held_N)
            intended += float(meant_N @ meant_N)
        return inner / math.sqrt(applied * intended) if applied and intended else 0.0

    def restore(self) -> None:
        """Give the policy the weights of the centre, bit for bit."""
        self._centre.restore()

    def tell(self, scores: Sequence[float | None]) -> dict[str, float | None] | None:
        """Learn from the scores of the population that was asked for, in its order.

        Args:
            scores: mean reward of each member; None for one that could not be judged.

        Returns:
            What the step did, by name; None when another population has to be evaluated first.

        Raises:
            AlgorithmError: a score is missing or is not a number.
        """
        population = self.ask()
        if len(scores) != len(population.members) or not all(s is None or math.isfinite(s) for s in scores):
            raise AlgorithmError(
                "these scores do not belong to the population",
                where=f"step {self.version}, stage {self._stage}",
                got=list(scores),
                expected=f"{len(population.members)} finite numbers, or None for a member that failed",
            )
        self._note(scores)
        if self._stage < self.settings.num_stages:
            self._displace(population, scores)
            self._stage += 1
            return None
        size = len(population.members)
        weigh = z_scores if self.settings.compares else raw
        terms = self._terms(population, [self.settings.alpha / size * z for z in weigh(scores)])
        self._metrics["update_norm"] = self._add(terms)
        self.version += 1
        self._stage = 1
        metrics, self._metrics = self._metrics, {}
        return metrics

    def _note(self, scores: Sequence[float | None]) -> None:
        known = [score for score in scores if score is not None]
        spread = math.sqrt(math.fsum(c * c for c in centred(known)) / len(known)) if known else None
        self._metrics |= {
            "population_spread": spread,
            "population_best": max(known, default=None),
            "population_failed": float(len(scores) - len(known)),
        }

    def _terms(self, population: Population, weights: Sequence[float]) -> dict[int, float]:
        """Coefficient of each seed's noise; a pair of opposite noise is one term."""
        terms: dict[int, float] = {}
        for member, weight in zip(population.members, weights, strict=True):
            sign = math.copysign(1.0, member.scale)
            terms[member.seed] = terms.get(member.seed, 0.0) + sign * weight
        return {seed: weight for seed, weight in terms.items() if weight != 0.0}

    def _displace(self, population: Population, scores: Sequence[float | None]) -> None:
        """Move the anchor of the second population towards lower reward; the centre stays."""
        s, size = self.settings, len(population.members)
        is_fast = s.method == "essam_f"
        weigh = (centred if is_fast else z_scores) if s.compares else raw
        terms = self._terms(population, [w / size for w in weigh(scores)])
        factor, norm = -s.rho, 0.0
        if is_fast:
            norm = math.sqrt(math.fsum(float(g.double().square().sum()) for _, g in self._sums(terms)))
            factor = -s.rho / (norm + _NORM_EPSILON)
        squares = []
        for block, sum_N in self._sums(terms):
            delta_N = sum_N.mul_(factor)
            squares.append(float(delta_N.double().square().sum()))
            self._centre.write(block, self._centre.read(block).add_(delta_N), displaced=True)
        self._metrics["displacement_norm"] = math.sqrt(math.fsum(squares))

    def _add(self, terms: Mapping[int, float]) -> float:
        """Add ``sum of weight * noise`` to the centre; the norm of what was added."""
        if not terms:
            self.restore()
            return 0.0
        squares = []
        for block, sum_N in self._sums(terms):
            squares.append(float(sum_N.double().square().sum()))
            self._centre.write(block, self._centre.read(block).add_(sum_N))
        self.restore()
        return math.sqrt(math.fsum(squares))

    def _sums(self, terms: Mapping[int, float]) -> Iterator[tuple[Block, torch.Tensor]]:
        """``sum of weight * noise`` of each block, added up in float32 before any weight is touched."""
        for block in self._centre.blocks():
            sum_N = torch.zeros(len(block.weights), device=block.weights.device)
            for seed, weight in terms.items():
                sum_N.add_(self._noise_of(block, seed), alpha=weight)
            yield block, sum_N

    def _noise_of(self, block: Block, seed: int) -> torch.Tensor:
        return self._noise(seed, block.name, block.number, len(block.weights), block.weights.device)

    def state_dict(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors that the policy does not hold (the centre of a model in half precision), and the rest as JSON-ready
        values. Only between steps.
        """
        return self._centre.state_dict(), {"version": self.version}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Put back what :meth:`state_dict` gave; the policy has its weights back already."""
        self._centre.load_state_dict(tensors)
        self.version = int(values["version"])
        self._stage = 1
