"""Options of a world."""

from __future__ import annotations

import pytest

from askesis.environments.adapters.options import Options
from askesis.errors import RecipeError


def test_what_is_taken_is_gone() -> None:
    options = Options("w", {"a": 1, "b": "x", "c": ["p", "q"], "rest": True})
    assert options.take("a", int, 0) == 1
    assert options.take("missing", float, 0.5) == 0.5
    assert options.texts("c") == ("p", "q")
    assert options.texts("none") == ()
    assert options.rest() == {"b": "x", "rest": True}
    options.finish()


def test_a_whole_number_may_be_a_float_but_a_truth_value_is_no_number() -> None:
    value = Options("w", {"a": 2}).take("a", float, 0.0)
    assert value == 2.0 and isinstance(value, float)
    for kind in (int, float):
        with pytest.raises(RecipeError, match="an option of the environment w is wrong"):
            Options("w", {"a": True}).take("a", kind, kind(0))


@pytest.mark.parametrize("bad", ["text", [1], {"x": 1}])
def test_a_list_of_texts_is_checked(bad: object) -> None:
    with pytest.raises(RecipeError) as caught:
        Options("w", {"names": bad}).texts("names")
    assert caught.value.where == "environment.options.names"


def test_unknown_options_are_named_with_a_guess() -> None:
    options = Options("w", {"retrys": 1})
    options.take("retries", int, 2)
    with pytest.raises(RecipeError) as caught:
        options.finish()
    assert caught.value.next_step == "did you mean 'retries'?"
