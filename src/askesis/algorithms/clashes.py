"""Stages that would run together and not do what they say are refused, with the reason."""

from __future__ import annotations

from askesis.algorithms.pipeline import Algorithm
from askesis.errors import RecipeError

__all__ = ["refuse_clashes"]


def refuse_clashes(algorithm: Algorithm) -> None:
    """RecipeError when two choices of the algorithm contradict each other."""
    estimator, credit = algorithm.estimator, algorithm.credit_stage
    if estimator.judges_success:
        _refuse_changed_rewards(algorithm)
    if credit.only_penalties and not estimator.penalises:
        raise RecipeError(
            f"credit {credit.name!r} changes negative advantages, and estimator {estimator.name!r} gives none",
            where="estimator, credit",
            got=f"estimator={estimator.name!r}, credit={credit.name!r}",
            next_step="use an estimator that penalises wrong answers, such as 'w_reinforce', or credit = 'none'",
        )
    if algorithm.has_states:
        _refuse_lost_gains(algorithm)
    if credit.replaces_kl and algorithm.kl.beta > 0:
        raise RecipeError(
            f"credit {credit.name!r} is guided by the distance from the reference, which a KL penalty takes away",
            where="credit, kl_beta",
            got=f"credit={credit.name!r} with kl_beta={algorithm.kl.beta:g}",
            next_step="set kl_beta = 0",
        )


def _refuse_lost_gains(algorithm: Algorithm) -> None:
    """An estimator that pays for states must see all trajectories, and its advantages of early turns must be kept."""
    name = algorithm.estimator.name
    if algorithm.credit_stage.name == "last_turn":
        raise RecipeError(
            f"estimator {name!r} pays the turns before the last one, and credit 'last_turn' keeps only the last",
            where="estimator, credit",
            got=f"estimator={name!r}, credit='last_turn'",
            next_step="set credit = 'none'",
        )
    if algorithm.resamples_constant_groups:
        raise RecipeError(
            f"estimator {name!r} learns from turns of groups with equal rewards, and dynamic sampling throws them away",
            where="estimator, dynamic_sampling",
            got=f"estimator={name!r} with dynamic_sampling=true",
            next_step="set dynamic_sampling = false",
        )


def _refuse_changed_rewards(algorithm: Algorithm) -> None:
    """An estimator that reads a reward as right or wrong must see the reward as it was judged."""
    name = algorithm.estimator.name
    if algorithm.kl.is_in_reward or algorithm.shaping.name != "none":
        changed = "a KL penalty in the reward" if algorithm.kl.is_in_reward else f"shaping {algorithm.shaping.name!r}"
        raise RecipeError(
            f"estimator {name!r} reads a reward as right or wrong, and {changed} would turn right into wrong",
            where="estimator, kl_placement" if algorithm.kl.is_in_reward else "estimator, shaping",
            got=f"estimator={name!r} with {changed}",
            next_step="set kl_placement = 'loss'" if algorithm.kl.is_in_reward else "set shaping = 'none'",
        )
    if algorithm.resamples_constant_groups:
        raise RecipeError(
            f"estimator {name!r} learns from groups without a right answer, and dynamic sampling throws them away",
            where="estimator, dynamic_sampling",
            got=f"estimator={name!r} with dynamic_sampling=true",
            next_step="set dynamic_sampling = false",
        )
