"""From a name and overrides, as a recipe gives them, to an :class:`~askesis.algorithms.pipeline.Algorithm`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from askesis.algorithms.aggregation import NORM_LENGTH, Aggregation
from askesis.algorithms.clashes import refuse_clashes
from askesis.algorithms.kl import KL_PARAMS, KLEstimator, KLPenalty, KLPlacement
from askesis.algorithms.pipeline import Algorithm
from askesis.algorithms.presets import Preset, find_preset
from askesis.algorithms.registry import (
    find_credit,
    find_estimator,
    find_modulator,
    find_objective,
    find_shaping,
    unknown_name,
)
from askesis.algorithms.stages import Param, Stage, Value
from askesis.errors import RecipeError, did_you_mean

__all__ = ["SAMPLING_PARAMS", "assemble", "build"]

_STAGE_KEYS = ("shaping", "estimator", "modulator", "credit", "objective", "aggregation")

SAMPLING_PARAMS = (
    Param(
        name="dynamic_sampling",
        kind=bool,
        default=False,
        why="throw away groups whose rewards are all equal, and sample others in their place (DAPO)",
    ),
    Param(
        name="drop_truncated",
        kind=bool,
        default=False,
        why="give advantage 0 to trajectories that were stopped by their length (DAPO's overlong filter)",
    ),
)


def build(name: str, overrides: Mapping[str, object] | None = None) -> Algorithm:
    """The algorithm called ``name``, with some of its stages or parameters replaced.

    Overrides are the keys ``shaping``, ``estimator``, ``modulator``, ``credit``, ``objective`` and ``aggregation``
    (names) and any parameter of the resulting stages. A replaced stage starts from its own defaults, not from those
    that the preset had for another one.

    Raises:
        RecipeError: an unknown name or key, a value of the wrong type or out of range, or choices that clash.
    """
    preset = find_preset(name)
    algorithm = assemble(preset, overrides or {})
    now, then = _settings(algorithm), _settings(assemble(preset, {}))
    return replace(algorithm, changed={key: then[key] for key in now if key in then and now[key] != then[key]})


def assemble(preset: Preset, overrides: Mapping[str, object]) -> Algorithm:
    """:func:`build` for a preset that need not be in the table; ``changed`` of the result is empty."""
    shaping = find_shaping(_stage_name(overrides, "shaping", preset.shaping))
    estimator = find_estimator(_stage_name(overrides, "estimator", preset.estimator))
    modulator = find_modulator(_stage_name(overrides, "modulator", preset.modulator))
    credit = find_credit(_stage_name(overrides, "credit", preset.credit))
    objective = find_objective(_stage_name(overrides, "objective", preset.objective))
    aggregation = _aggregation(_stage_name(overrides, "aggregation", preset.aggregation))
    aggregation_params = (NORM_LENGTH,) if aggregation is Aggregation.SEQ_MEAN_TOKEN_SUM_NORM else ()
    stages: tuple[Stage, ...] = (shaping, estimator, modulator, credit, objective)
    _refuse_unknown(overrides, *(stage.params for stage in stages), aggregation_params, KL_PARAMS, SAMPLING_PARAMS)

    def resolve(params: Iterable[Param], is_as_preset: bool = True) -> dict[str, Value]:
        own = preset.params if is_as_preset else {}
        where = f"algorithm {preset.name!r}"
        return {p.name: p.check(overrides.get(p.name, own.get(p.name, p.default)), where) for p in params}

    norm_length = resolve(aggregation_params).get("norm_length")
    sampling = resolve(SAMPLING_PARAMS)
    algorithm = Algorithm(
        name=preset.name,
        shaping=shaping,
        shaping_params=resolve(shaping.params, shaping.name == preset.shaping),
        estimator=estimator,
        estimator_params=resolve(estimator.params, estimator.name == preset.estimator),
        modulator=modulator,
        modulator_params=resolve(modulator.params, modulator.name == preset.modulator),
        credit_stage=credit,
        credit_params=resolve(credit.params, credit.name == preset.credit),
        objective=objective,
        objective_params=resolve(objective.params, objective.name == preset.objective),
        aggregation=aggregation,
        norm_length=norm_length if isinstance(norm_length, int) else None,
        kl=_kl_penalty(resolve(KL_PARAMS)),
        resamples_constant_groups=bool(sampling["dynamic_sampling"]),
        drops_truncated=bool(sampling["drop_truncated"]),
        changed={},
    )
    refuse_clashes(algorithm)
    return algorithm


def _stage_name(overrides: Mapping[str, object], key: str, default: str) -> str:
    name = overrides.get(key, default)
    if not isinstance(name, str):
        raise RecipeError(
            f"{key} must be a name",
            where=f"algorithm, key {key!r}",
            got=repr(name),
            expected=f"for example {default!r}",
        )
    return name


def _aggregation(name: str) -> Aggregation:
    known = {kind.value: kind for kind in Aggregation}
    if name not in known:
        raise unknown_name("aggregation", name, known)
    return known[name]


def _kl_penalty(params: Mapping[str, Value]) -> KLPenalty:
    beta, estimator, placement = params["kl_beta"], params["kl_estimator"], params["kl_placement"]
    assert isinstance(beta, float) and isinstance(estimator, KLEstimator) and isinstance(placement, KLPlacement)
    return KLPenalty(beta=beta, estimator=estimator, placement=placement)


def _refuse_unknown(overrides: Mapping[str, object], *stages: Iterable[Param]) -> None:
    names = [param.name for params in stages for param in params]
    doubled = [name for name, count in Counter([*_STAGE_KEYS, *names]).items() if count > 1]
    if doubled:
        raise RecipeError(
            "two stages have a parameter of the same name, so a recipe cannot say which it means",
            where="algorithm",
            got=", ".join(doubled),
            next_step="use another estimator or objective, or have its author rename the parameter",
        )
    known = [*_STAGE_KEYS, *names]
    for key in overrides:
        if key not in known:
            raise RecipeError(
                f"no stage of this algorithm has a parameter called {key!r}",
                where=f"algorithm, key {key!r}",
                got=key,
                expected=", ".join(known),
                next_step=did_you_mean(str(key), known) or "remove it, or choose the stage that it belongs to",
            )


def _settings(algorithm: Algorithm) -> dict[str, Value]:
    return {**algorithm.stages, **algorithm.params}
