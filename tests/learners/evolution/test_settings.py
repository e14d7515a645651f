"""Sizes of populations, and how many evaluations a step costs."""

from __future__ import annotations

import pytest

from askesis.errors import RecipeError
from askesis.learners.evolution import EvolutionSettings


def settings(**changes: object) -> EvolutionSettings:
    values = {"method": "essam", "population": 8, "first_population": 2, "sigma": 1.0, "alpha": 1.0, "rho": 1.0}
    return EvolutionSettings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "population", "first", "evaluations"),
    [("es", 30, 0, 30), ("essam", 40, 40, 80), ("essam_f", 40, 10, 50)],
)
def test_evaluations_per_step(method: str, population: int, first: int, evaluations: int) -> None:
    made = settings(method=method, population=population, first_population=first)
    assert made.evaluations == evaluations
    assert made.num_stages == (1 if method == "es" else 2)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"population": 1}, "rollout.group_size"),
        ({"first_population": 1}, "first_population"),
        ({"population": 7, "antithetic": True}, "rollout.group_size"),
        ({"first_population": 3, "antithetic": True}, "first_population"),
    ],
)
def test_a_population_must_be_comparable(changes: dict[str, object], where: str) -> None:
    with pytest.raises(RecipeError, match=where):
        settings(**changes)


def test_es_has_no_first_population() -> None:
    assert settings(method="es", first_population=0).evaluations == 8
