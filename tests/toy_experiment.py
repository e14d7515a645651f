"""A trial that takes no time; worker processes import it from here."""

from __future__ import annotations

import os
from collections.abc import Mapping

from askesis.claims import Trial
from askesis.recipe.schema import Option
from askesis.streams import generator

ERRORS = {"ours": 0.001, "plain": 0.01, "poor": 0.5}


def run(setting: str, arm: str, seed: int, options: Mapping[str, Option]) -> Trial:
    """An error that depends on the arm and, little, on the seed."""
    if options.get("broken"):
        raise ZeroDivisionError("as asked")
    noise = float(generator(seed, "toy", setting).random())
    error = ERRORS[arm] * (1 + 0.1 * noise)
    return Trial(
        metrics={"error": [error, error * 2], "process": [float(os.getpid())], "threads": [_threads()]},
        curve=[(0, 1.0), (10, error)],
        cost=12.5,
    )


def _threads() -> float:
    return float(os.environ.get("OMP_NUM_THREADS", "0"))
