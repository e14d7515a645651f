"""The constants of an evolution strategy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from askesis.errors import RecipeError

__all__ = ["EvolutionSettings", "Method"]

Method = Literal["es", "essam", "essam_f"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionSettings:
    """See :class:`askesis.recipe.EvolutionSection` for reasons.

    Raises:
        RecipeError: a population that cannot be compared, or not be halved.
    """

    method: Method
    population: int
    """Members N whose scores make the update."""
    first_population: int
    """Members that find the displacement: N for ESSAM, K for ESSAM-F; unused by ES."""
    sigma: float
    """Standard deviation of the noise, in units of the weights."""
    alpha: float
    """Step size; the usual division by sigma is part of it."""
    rho: float
    """ESSAM: factor of the displacement, which is not normalised; ESSAM-F: its norm."""
    antithetic: bool = False
    """Members come in pairs of opposite noise."""
    compares: bool = True
    """Members are scored against each other; False takes rewards as they are (an ablation)."""
    seed: int = 0
    """Of the run."""

    def __post_init__(self) -> None:
        sizes = {"rollout.group_size": self.population}
        if self.method != "es":
            sizes["learner.evolution.first_population"] = self.first_population
        for where, size in sizes.items():
            if size < 2 or (self.antithetic and size % 2):
                raise RecipeError(
                    "a population of this size cannot be scored",
                    where=where,
                    got=size,
                    expected="an even number, for pairs of opposite noise" if self.antithetic else "at least 2",
                    next_step="change rollout.group_size: both populations of a step share it",
                )

    @property
    def num_stages(self) -> int:
        """Populations that one step evaluates."""
        return 1 if self.method == "es" else 2

    @property
    def evaluations(self) -> int:
        """Members evaluated in one step, all stages: N, 2 N or K + N."""
        return self.population + (self.first_population if self.num_stages == 2 else 0)
