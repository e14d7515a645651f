"""The families of reasoning-gym: their names without importing it, and their data sets with checked options.

Importing reasoning-gym takes about a second, so the names are a list here; a test compares it with the library's
own registry. ``composite`` is left out: it only mixes other families.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from types import GenericAlias
from typing import Any, get_args, get_origin, get_type_hints

from askesis.environments.reasoning.levels import load_levels
from askesis.errors import RecipeError, did_you_mean

__all__ = ["FAMILIES", "check_family", "default_scorer", "level_options", "make_dataset", "resolve_options"]

_NAMES = """
    ab acre advanced_geometry aiw arc_1d arc_agi base_conversion basic_arithmetic bf binary_alternation
    binary_matrix bitwise_arithmetic boxnet caesar_cipher calendar_arithmetic chain_sum circuit_logic codeio
    coin_flip color_cube_rotation complex_arithmetic count_bits count_primes countdown course_schedule cryptarithm
    decimal_arithmetic decimal_chain_sum dice emoji_mystery family_relationships figlet_font
    fraction_simplification futoshiki game_of_life game_of_life_halting gcd graph_color group_anagrams
    gsm_symbolic intermediate_integration isomorphic_strings jugs kakurasu knight_swap knights_knaves
    largest_island lcm leg_counting letter_counting letter_jumble list_functions mahjong_puzzle manipulate_matrix
    maze mini_sudoku modulo_grid n_queens needle_haystack number_filtering number_format number_sequence
    number_sorting palindrome_generation palindrome_partitioning path_star polynomial_equations
    polynomial_multiplication pool_matrix power_function prime_factorization products propositional_logic puzzle24
    quantum_lock ransom_note rearc rectangle_count rotate_matrix rotten_oranges rubiks_cube rush_hour
    self_reference sentence_reordering shortest_path simple_equations simple_geometry simple_integration sokoban
    spell_backward spiral_matrix string_insertion string_manipulation string_splitting string_synthesis sudoku
    survo syllogism time_intervals tower_of_hanoi tsumego word_ladder word_sequence_reversal word_sorting
    zebra_puzzles
"""
FAMILIES = tuple(_NAMES.split())

_WHERE = "environment.options"
_OWN = ("seed", "size")  # fields of every family's configuration that are not the user's to set


def check_family(name: str) -> None:
    """RecipeError unless ``name`` is a family. Does not import reasoning-gym."""
    if name in FAMILIES:
        return
    if name == "composite":
        raise RecipeError(
            "the family 'composite' only mixes other families and is not offered",
            where="environment.family",
            next_step="name one of the families that it would mix",
        )
    raise RecipeError(
        f"reasoning-gym has no family called {name!r}",
        where="environment.family",
        got=name,
        expected=", ".join(FAMILIES),
        next_step=did_you_mean(name, FAMILIES) or "name one of the families of reasoning-gym",
    )


def level_options(family: str, level: str) -> dict[str, object]:
    """What ``level`` sets: for ``nano`` what the built-in policy was trained at, if it knows the family."""
    if level not in ("nano", "default"):
        raise RecipeError("unknown level", where="environment.level", got=level, expected="nano or default")
    return dict(load_levels().get(family, {})) if level == "nano" else {}


def resolve_options(family: str, level: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The level's options overridden by ``options``, JSON-ready. RecipeError for one that the family does not take."""
    check_family(family)
    merged = {**level_options(family, level), **options}
    config = _config_class(family)
    known = sorted(field.name for field in fields(config) if field.name not in _OWN)
    for key in merged:
        if key not in known:
            raise RecipeError(
                f"{family} has no option called {key!r}",
                where=_WHERE,
                got=key,
                expected=", ".join(known) or "no options",
                next_step=did_you_mean(key, known) or "name one of the options above",
            )
    candidate = config(**_decode(family, merged))
    try:
        if hasattr(candidate, "validate"):  # one family has none
            candidate.validate()
    except (AssertionError, ValueError, TypeError) as error:
        raise RecipeError(
            f"{family} cannot take these options",
            where=_WHERE,
            got=merged,
            expected=str(error) or type(error).__name__,
            next_step="change the options so that they agree with each other and with the level's",
        ) from error
    return json.loads(json.dumps(merged))  # type: ignore[no-any-return]


def make_dataset(family: str, options: Mapping[str, Any], *, seed: int, size: int) -> Any:
    """The reasoning-gym data set (a ProceduralDataset) of resolved options."""
    import reasoning_gym

    return reasoning_gym.create_dataset(family, seed=seed, size=size, **_decode(family, options))


def default_scorer(family: str) -> bool:
    """Whether the family scores by plain comparison of strings, as reasoning-gym's base class does."""
    from reasoning_gym.dataset import ProceduralDataset
    from reasoning_gym.factory import DATASETS

    return DATASETS[family][0].score_answer is ProceduralDataset.score_answer


def _config_class(family: str) -> Any:
    # The package itself, not only its factory: importing it is what registers the families.
    import reasoning_gym.factory

    if family not in reasoning_gym.factory.DATASETS:
        raise RecipeError(
            f"the installed reasoning-gym {version('reasoning-gym')} has no family {family!r}",
            where="environment.family",
            next_step="pip install -U reasoning-gym",
        )
    return reasoning_gym.factory.DATASETS[family][1]


def _decode(family: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """JSON-ready options as the types that the family's configuration declares (tuples, dates, enums)."""
    from pydantic import TypeAdapter, ValidationError

    config = _config_class(family)
    hints = get_type_hints(config)
    decoded = {}
    for key, value in options.items():
        hint = hints[key]
        if get_origin(hint) is tuple and len(get_args(hint)) == 1:
            # reasoning-gym writes tuple[str] where it means any number of them
            hint = GenericAlias(tuple, (*get_args(hint), ...))
        if hint is int and isinstance(getattr(config, key, None), float):
            hint = float  # rearc calls its fractions int
        try:
            decoded[key] = TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            raise RecipeError(
                f"the option {key!r} of {family} has the wrong type",
                where=_WHERE,
                got=value,
                expected=getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint),
            ) from error
    return decoded
