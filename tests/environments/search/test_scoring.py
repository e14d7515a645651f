"""search-qa.md 13: the worked scores."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.search.scoring import exact_match, f1, normalise, sub_exact_match


@pytest.mark.parametrize(
    ("prediction", "golds", "normal", "em", "overlap"),
    [
        ("The Beatles", ["beatles"], "beatles", 1, 1),
        ("Barack Obama", ["Barack Hussein Obama"], "barack obama", 0, 0.8),
        ("U.S.A.", ["usa"], "usa", 1, 1),
        ("twenty-one", ["twenty one"], "twentyone", 0, 0),
        ("yes", ["yes, it is"], "yes", 0, 0),
        ("president Barack Obama", ["Barack Obama", "Obama"], "president barack obama", 0, 0.8),
        ("A", ["a"], "", 1, 0),
        ("an apple a day", ["apple day"], "apple day", 1, 1),
        ("Paris, France", ["Paris"], "paris france", 0, 0.666667),
    ],
)
def test_worked_numbers(prediction: str, golds: list[str], normal: str, em: float, overlap: float) -> None:
    assert normalise(prediction) == normal
    assert exact_match(prediction, golds) == em
    assert f1(prediction, golds) == pytest.approx(overlap, abs=1e-6)


def test_sub_exact_match_looks_inside() -> None:
    assert sub_exact_match("It is Paris, France", ["paris"]) == 1 and sub_exact_match("Par is", ["Paris"]) == 0
    assert sub_exact_match("x", []) == 0 and f1("x", []) == 0


@given(st.text(), st.lists(st.text(), min_size=1, max_size=3))
def test_scores_lie_between_0_and_1_and_normalising_twice_changes_nothing(said: str, golds: list[str]) -> None:
    assert 0 <= f1(said, golds) <= 1
    assert exact_match(golds[0], golds) == 1
    assert exact_match(said, golds) <= sub_exact_match(said, golds)
    assert "  " not in normalise(said) and normalise(said) == normalise(normalise(said).upper().lower())
