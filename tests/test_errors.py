"""Errors: their text, their pickles, and suggestions for mistyped names."""

from __future__ import annotations

import pickle

import pytest

import askesis.errors as errors
from askesis.errors import AskesisError, BudgetExhausted, MissingExtra, RecipeError, did_you_mean

KINDS = [
    kind
    for kind in (getattr(errors, name) for name in errors.__all__)
    if isinstance(kind, type) and kind not in (BudgetExhausted, MissingExtra)
]


def test_the_text_has_one_line_per_part_and_none_for_missing_parts() -> None:
    error = RecipeError("wrong", where="a.toml", got=[1], expected="a number", next_step="type 1")
    assert str(error).splitlines() == [
        "wrong",
        "  where:    a.toml",
        "  got:      [1]",
        "  expected: a number",
        "  next:     type 1",
    ]
    assert str(RecipeError("wrong")) == "wrong"


def test_long_values_are_shortened_and_none_is_not_a_value() -> None:
    assert AskesisError("x", got="a" * 201).got == "a" * 200 + "… (201 characters)"
    assert AskesisError("x", got="a" * 200).got == "a" * 200
    assert AskesisError("x", got=0).got == "0"
    assert AskesisError("x").got is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_pickling(kind: type[AskesisError]) -> None:
    error = kind("what", where="here", got=1, expected=2, next_step="go")
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is kind
    assert str(back) == str(error)


def test_errors_with_arguments_of_their_own_survive_pickling() -> None:
    budget = pickle.loads(pickle.dumps(BudgetExhausted("spent", reason="max_turns", where="s")))  # noqa: S301
    assert (budget.reason, budget.where) == ("max_turns", "s")
    extra = pickle.loads(pickle.dumps(MissingExtra("peft", "lora", "LoRA")))  # noqa: S301
    assert "pip install 'askesis[lora]'" in str(extra)
    assert isinstance(extra, ImportError)


def test_errors_are_caught_as_what_they_replace() -> None:
    for kind, base in ((errors.RecipeError, ValueError), (errors.StoreBusy, RuntimeError), (MissingExtra, ImportError)):
        assert issubclass(kind, base)
        assert issubclass(kind, AskesisError)


@pytest.mark.parametrize(
    ("word", "expected"),
    [("gpro", "did you mean 'grpo'?"), ("vespa", "did you mean 'vespo'?"), ("xyz", None), ("", None)],
)
def test_did_you_mean(word: str, expected: str | None) -> None:
    assert did_you_mean(word, ["grpo", "vespo", "rloo"]) == expected
