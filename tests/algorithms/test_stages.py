"""Parameters accept what they say and refuse the rest in words."""

from __future__ import annotations

from enum import StrEnum

import pytest

from askesis.algorithms import Param
from askesis.errors import RecipeError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


WIDTH = Param(name="width", kind=float, default=1.0, minimum=0, why="how wide")
LIMIT = Param(name="limit", kind=float, default=None, above=1, is_optional=True, why="how much")
COUNT = Param(name="count", kind=int, default=3, minimum=1, why="how many")
SWITCH = Param(name="switch", kind=bool, default=False, why="on or off")
COLOUR = Param(name="colour", kind=Colour, default=Colour.RED, why="which colour")


@pytest.mark.parametrize(
    ("param", "given", "value"),
    [
        (WIDTH, 2, 2.0),
        (WIDTH, 0, 0.0),
        (LIMIT, None, None),
        (LIMIT, 1.5, 1.5),
        (COUNT, 1, 1),
        (SWITCH, True, True),
        (COLOUR, "blue", Colour.BLUE),
        (COLOUR, Colour.RED, Colour.RED),
    ],
)
def test_good_values_are_typed(param: Param, given: object, value: object) -> None:
    got = param.check(given, "here")
    assert got == value and type(got) is type(value)


@pytest.mark.parametrize(
    ("param", "given", "expected"),
    [
        (WIDTH, -0.1, "a finite number of at least 0"),
        (WIDTH, "1", "a finite number of at least 0"),
        (WIDTH, float("nan"), "a finite number of at least 0"),
        (WIDTH, float("inf"), "a finite number of at least 0"),
        (WIDTH, True, "a finite number of at least 0"),
        (WIDTH, None, "a finite number of at least 0"),
        (LIMIT, 1, "a finite number above 1"),
        (COUNT, 0, "a whole number of at least 1"),
        (COUNT, 2.0, "a whole number of at least 1"),
        (COUNT, True, "a whole number of at least 1"),
        (SWITCH, 1, "true or false"),
        (COLOUR, "green", "one of 'red', 'blue'"),
        (COLOUR, 3, "one of 'red', 'blue'"),
        (COLOUR, ["red"], "one of 'red', 'blue'"),
    ],
)
def test_bad_values_are_refused_in_words(param: Param, given: object, expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        param.check(given, "recipe.toml")
    assert caught.value.expected == expected
    assert caught.value.where == "recipe.toml"
    assert param.name in str(caught.value) and param.why in str(caught.value)
