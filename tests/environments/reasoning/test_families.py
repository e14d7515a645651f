"""Names and options of the families."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import fields
from typing import Any

import pytest

from askesis.environments.reasoning.families import (
    FAMILIES,
    check_family,
    default_scorer,
    level_options,
    make_dataset,
    resolve_options,
)
from askesis.environments.reasoning.levels import load_levels
from askesis.errors import RecipeError


def test_the_list_is_the_registry_without_composite() -> None:
    import reasoning_gym.factory

    assert set(FAMILIES) == set(reasoning_gym.factory.DATASETS) - {"composite"}
    assert list(FAMILIES) == sorted(FAMILIES)


def test_an_unknown_family_is_refused_at_once_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from askesis.environments import make_world\n"
        "from askesis.errors import RecipeError\n"
        "try: make_world('reasoning', family='chain_sun', level='nano')\n"
        "except RecipeError as e: print(e.next_step)\n"
        "print([m for m in ('torch', 'reasoning_gym', 'transformers', 'matplotlib') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["did you mean 'chain_sum'?", "[]"]
    started = time.perf_counter()
    with pytest.raises(RecipeError, match="no family called 'spel_backwards'"):
        check_family("spel_backwards")
    assert time.perf_counter() - started < 0.5


def test_composite_is_refused_with_a_reason() -> None:
    with pytest.raises(RecipeError, match="only mixes other families"):
        check_family("composite")


def test_levels() -> None:
    assert level_options("chain_sum", "nano") == load_levels()["chain_sum"] != {}
    assert level_options("chain_sum", "default") == {}
    assert level_options("sudoku", "nano") == {}
    with pytest.raises(RecipeError, match="unknown level"):
        level_options("chain_sum", "hard")


def test_options_override_the_level() -> None:
    level = load_levels()["chain_sum"]
    assert resolve_options("chain_sum", "nano", {"max_terms": 9}) == {**level, "max_terms": 9}
    assert resolve_options("chain_sum", "default", {}) == {}


@pytest.mark.parametrize("family", sorted(load_levels()))
def test_every_shipped_level_is_accepted(family: str) -> None:
    assert resolve_options(family, "nano", {}) == load_levels()[family]


@pytest.mark.parametrize(
    ("family", "options", "what", "hint"),
    [
        ("chain_sum", {"min_term": 3}, "no option called 'min_term'", "did you mean 'min_terms'?"),
        ("chain_sum", {"seed": 3}, "no option called 'seed'", "name one of"),
        ("chain_sum", {"size": 3}, "no option called 'size'", "name one of"),
        ("chain_sum", {"min_terms": "3"}, "wrong type", None),
        ("chain_sum", {"min_terms": 3.5}, "wrong type", None),
        ("chain_sum", {"min_terms": True}, "wrong type", None),
        ("chain_sum", {"allow_negation": 1}, "wrong type", None),
        ("basic_arithmetic", {"operators": "+"}, "wrong type", None),
        ("basic_arithmetic", {"operators": [1]}, "wrong type", None),
        ("basic_arithmetic", {"format_style": "fancy"}, "wrong type", None),
        ("chain_sum", {"min_terms": 9, "max_terms": 3}, "cannot take these options", "agree"),
    ],
)
def test_wrong_options_are_refused(family: str, options: dict[str, Any], what: str, hint: str | None) -> None:
    with pytest.raises(RecipeError, match=what) as caught:
        resolve_options(family, "default", options)
    assert caught.value.where == "environment.options"
    assert caught.value.expected
    if hint is not None:
        assert hint in (caught.value.next_step or "")


def test_options_take_the_types_that_the_family_declares() -> None:
    polynomials = make_dataset("polynomial_multiplication", {"variables": ["u", "v"]}, seed=1, size=1)
    assert polynomials.config.variables == ("u", "v")
    words = make_dataset("word_sorting", {"transformation": "uppercase"}, seed=1, size=1)
    assert words.config.transformation.value == "uppercase"
    times = make_dataset("time_intervals", {"min_date": "2001-02-03"}, seed=1, size=1)
    assert (times.config.min_date.year, times.config.min_date.day) == (2001, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_default_options_can_be_written_out(family: str) -> None:
    """A user may repeat a default that a recipe can express; it must not be refused."""
    import reasoning_gym.factory

    config = reasoning_gym.factory.DATASETS[family][1]
    for field in fields(config):
        value = getattr(config(), field.name)
        if field.name not in ("seed", "size") and isinstance(value, bool | int | float):
            assert resolve_options(family, "default", {field.name: value}) == {field.name: value}


def test_which_scorers_are_plain() -> None:
    assert default_scorer("gcd")
    assert not default_scorer("countdown")
