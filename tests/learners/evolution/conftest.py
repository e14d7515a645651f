"""A policy of a few bare parameters, and noise from a table: enough for every number that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from askesis.learners.evolution import EvolutionLearner, EvolutionSettings
from askesis.learners.evolution.noise import Noise
from askesis.streams import seed_of


class Bare:
    """What evolution needs of a policy: named parameters."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.parameters = [(f"p{i}", torch.nn.Parameter(t)) for i, t in enumerate(tensors)]
        self.model = SimpleNamespace(dtype=tensors[0].dtype)

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        return self.parameters

    def flat(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for _, p in self.parameters])


@pytest.fixture(scope="session")
def bare() -> type[Bare]:
    return Bare


@pytest.fixture(scope="session")
def make_learner() -> Callable[..., EvolutionLearner]:
    def make(policy: Any, *, noise: Noise | None = None, **changes: object) -> EvolutionLearner:
        values = {
            "method": "es",
            "population": 4,
            "first_population": 4,
            "sigma": 0.1,
            "alpha": 1.0,
            "rho": 0.1,
            **changes,
        }
        settings = EvolutionSettings(**values)  # type: ignore[arg-type]
        return EvolutionLearner(policy, settings, **({} if noise is None else {"noise": noise}))

    return make


@pytest.fixture(scope="session")
def table_noise() -> Callable[[Sequence[Sequence[float]]], Noise]:
    """Noise whose n-th row belongs to the n-th member of any population of the first steps."""

    def make(rows: Sequence[Sequence[float]]) -> Noise:
        row_of = {
            seed_of(0, "evolution", version, stage, place): row
            for version in range(3)
            for stage in (1, 2)
            for place, row in enumerate(rows)
        }

        def noise(seed: int, name: str, block: int, size: int, device: torch.device) -> torch.Tensor:
            return torch.tensor(row_of[seed], dtype=torch.float32)

        return noise

    return make


def evaluate(
    learner: EvolutionLearner, reward: Callable[[torch.Tensor], float], policy: Bare
) -> Mapping[str, float | None]:
    """One whole step on a reward that is a function of the weights."""
    told = None
    while told is None:
        scores = []
        for member in learner.ask().members:
            learner.put_on(member)
            scores.append(reward(policy.flat()))
        learner.restore()
        told = learner.tell(scores)
    return told


@pytest.fixture(scope="session")
def step() -> Callable[..., Mapping[str, float | None]]:
    return evaluate
