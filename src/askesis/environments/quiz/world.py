"""The world ``quiz``: an outcome reward that hangs on some turns of an episode and not on the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from askesis.environments.protocol import World
from askesis.environments.quiz.environment import QuizEnvironment
from askesis.environments.quiz.evaluator import QuizEvaluator
from askesis.environments.quiz.tasks import ENVIRONMENT, QuizTasks
from askesis.environments.reasoning.client import shared_worker
from askesis.environments.reasoning.environment import DEFAULT_INSTRUCTION
from askesis.environments.reasoning.evaluator import ReasoningEvaluator
from askesis.environments.reasoning.families import resolve_options
from askesis.environments.reasoning.tasks import ReasoningTasks
from askesis.errors import RecipeError
from askesis.streams import seed_of

__all__ = ["make"]

_DEFAULT_TURNS = 2


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A quiz of two families; see :func:`askesis.environments.make_world`.

    Args:
        family: the reward depends on questions of this family of reasoning-gym.
        level: of both families.
        options: ``other``, the second family, must be given; ``counted_turns`` and ``other_turns`` (2 each) are
            questions per quiz; ``counted_KEY`` and ``other_KEY`` are the option KEY of the first and second family.
        seed: root of the stream of tasks.
        instruction: system message of every question.
    """
    own = dict(options)
    other = own.pop("other", None)
    if not isinstance(other, str):
        raise RecipeError(
            "a quiz needs a second family",
            where="environment.options.other",
            got=other,
            expected="a family of reasoning-gym, on whose questions the reward does not depend",
            next_step="for example environment.options.other=products",
        )
    counted_turns, other_turns = _turns(own, "counted_turns", 1), _turns(own, "other_turns", 0)
    sources = {}
    for kind, name in (("counted", family), ("other", other)):
        prefix = f"{kind}_"
        resolved = resolve_options(
            name, level, {key.removeprefix(prefix): own.pop(key) for key in list(own) if key.startswith(prefix)}
        )
        sources[kind] = ReasoningTasks(name, resolved, seed=seed_of(seed, "quiz", kind), worker=shared_worker("draw"))
    if own:
        raise RecipeError(
            "unknown options of the environment quiz",
            where="environment.options",
            got=sorted(own),
            expected="other, counted_turns, other_turns, counted_KEY, other_KEY",
            next_step="write counted_ before an option of the first family, other_ before one of the second",
        )
    return World(
        name=ENVIRONMENT,
        environment=QuizEnvironment(DEFAULT_INSTRUCTION if instruction is None else instruction),
        evaluator=QuizEvaluator(ReasoningEvaluator(worker=shared_worker("score"))),
        tasks=QuizTasks(
            counted=sources["counted"],
            other=sources["other"],
            counted_turns=counted_turns,
            other_turns=other_turns,
            seed=seed,
        ),
    )


def _turns(options: dict[str, Any], name: str, least: int) -> int:
    value = options.pop(name, _DEFAULT_TURNS)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise RecipeError(
            "a number of questions is wrong",
            where=f"environment.options.{name}",
            got=value,
            expected=f"a whole number from {least} on",
        )
    return value
