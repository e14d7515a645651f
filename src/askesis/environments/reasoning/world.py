"""The world ``reasoning``: all families of reasoning-gym."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from askesis.environments.protocol import World
from askesis.environments.reasoning.client import shared_worker
from askesis.environments.reasoning.environment import DEFAULT_INSTRUCTION, QuestionEnvironment
from askesis.environments.reasoning.evaluator import ReasoningEvaluator
from askesis.environments.reasoning.families import resolve_options
from askesis.environments.reasoning.tasks import ENVIRONMENT, ReasoningTasks
from askesis.errors import RecipeError

__all__ = ["make"]


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A world of one family; see :func:`askesis.environments.make_world`.

    ``partial_credit`` (bool, default false) among the options is the evaluator's; all others are the family's.
    """
    own = dict(options)
    partial_credit = own.pop("partial_credit", False)
    if not isinstance(partial_credit, bool):
        raise RecipeError(
            "partial_credit is not true or false",
            where="environment.options",
            got=partial_credit,
            expected="true or false",
        )
    resolved = resolve_options(family, level, own)
    return World(
        name=ENVIRONMENT,
        environment=QuestionEnvironment(DEFAULT_INSTRUCTION if instruction is None else instruction),
        evaluator=ReasoningEvaluator(worker=shared_worker("score"), partial_credit=partial_credit),
        tasks=ReasoningTasks(family, resolved, seed=seed, worker=shared_worker("draw")),
    )
