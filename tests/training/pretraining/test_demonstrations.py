from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import reasoning_gym

from askesis.environments.reasoning.levels import load_levels
from askesis.training.pretraining.data import items, reply
from askesis.training.pretraining.demonstrations import FAMILIES, steps

STEP = re.compile(r"(-?[\d.]+) ([-+*/%]) (-?[\d.]+) = (-?[\d.]+)")
EQUATED = ["chain_sum", "basic_arithmetic", "decimal_chain_sum", "products", "leg_counting", "complex_arithmetic"]


def some(family: str, count: int = 200) -> list[Any]:
    return list(itertools.islice(items(family, "train", 11), count))


def last_value(family: str, text: str) -> str:
    """What the steps come to, in the form of the family's answer."""
    numbers = re.findall(r"-?\d+(?:\.\d+)?", text)
    if family == "fraction_simplification":
        return text.split()[-1]
    if family == "spell_backward":
        return text.split("; ")[1].replace(" ", "")
    if family == "count_bits":
        return numbers[-2]
    if family == "complex_arithmetic":
        real, imaginary = (int(match[4]) for match in itertools.islice(STEP.finditer(text), 2, 6, 3))
        return f"{real}.0 {'-' if imaginary < 0 else '+'} {abs(imaginary)}.0i"
    if family == "time_intervals":
        minutes, hours = (int(match[4]) for match in STEP.finditer(text))
        return f"{hours:02}:{minutes:02}"
    return numbers[-1]


def test_every_level_has_demonstrations() -> None:
    assert set(FAMILIES) == set(load_levels())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_demonstrated_answers_score_full_marks_and_follow_from_the_steps(family: str) -> None:
    dataset = reasoning_gym.create_dataset(family, size=1, seed=0, **load_levels()[family])
    solved = 0
    for item in some(family):
        text = reply(family, item, think=True)
        if text is None:
            continue
        thought, answer = re.fullmatch(r"<think>(.*)</think><answer>(.*)</answer>", text, re.S).groups()  # type: ignore[union-attr]
        assert dataset.score_answer(answer, item) == 1.0
        assert dataset.score_answer(last_value(family, thought), item) == 1.0
        solved += 1
    assert solved >= 195


@pytest.mark.parametrize("family", EQUATED)
def test_every_equation_in_the_steps_is_true(family: str) -> None:
    for item in some(family, 50):
        text = steps(family, item)
        assert text is not None
        chained = 0
        # "1 + 2 = 3 + 4 = 7" holds two steps; the lookahead lets the second start where the first ended.
        for match in re.finditer(rf"(?<![\d.-])(?={STEP.pattern})", text):
            left, operator, right, result = match.groups()
            assert {"+": float(left) + float(right), "-": float(left) - float(right), "*": float(left) * float(right)}[
                operator
            ] == pytest.approx(float(result))
            chained += 1
        assert chained >= text.count("=") > 0


@pytest.mark.parametrize(
    ("family", "item", "expected"),
    [
        ("chain_sum", {"metadata": {"expression": "12 + 45 - 60"}}, "12 + 45 = 57 - 60 = -3"),
        ("decimal_chain_sum", {"metadata": {"expression": "5.5 + 9.9 - 7.4"}}, "5.5 + 9.9 = 15.4 - 7.4 = 8.0"),
        ("basic_arithmetic", {"metadata": {"expression": "10 + 8 * 2 - -7"}}, "8 * 2 = 16; 10 + 16 = 26; 26 - -7 = 33"),
        (
            "basic_arithmetic",
            {"metadata": {"expression": "2 * ( ( 5 - 9 ) - 1 ) * 7"}},
            "5 - 9 = -4; -4 - 1 = -5; 2 * -5 = -10; -10 * 7 = -70",
        ),
        ("products", {"metadata": {"expression": "57 * 23"}}, "57 * 20 = 1140; 57 * 3 = 171; 1140 + 171 = 1311"),
        ("products", {"metadata": {"expression": "57 * 20"}}, "57 * 20 = 1140"),
        ("gcd", {"metadata": {"numbers": [12, 18]}}, "18 % 12 = 6; 12 % 6 = 0; 6"),
        ("fraction_simplification", {"metadata": {"numerator": 80, "denominator": 190}}, "80/190 2: 40/95 5: 8/19"),
        (
            "leg_counting",
            {"metadata": {"animals": {"spider": 2, "dog": 3}}},
            "2 * 8 = 16; 3 * 4 = 12; 16 + 12 = 28",
        ),
        (
            "complex_arithmetic",
            {"metadata": {"num1": (7.0, -6.0), "num2": (1.0, 9.0)}},
            "7 * 1 = 7; -6 * 9 = -54; 7 - -54 = 61; 7 * 9 = 63; -6 * 1 = -6; 63 + -6 = 57",
        ),
        ("spell_backward", {"metadata": {"word": "Sun"}}, "S u n; n u S"),
        ("count_bits", {"metadata": {"number": 13}}, "13 1: 5 2: 1 3: 0"),
        (
            "letter_counting",
            {"metadata": {"target_letter": "e", "span": ["free", "The", "ant"]}},
            "f r e e 2; T h e 3; a n t 3",
        ),
        (
            "simple_equations",
            {"metadata": {"variable": "x", "equation": "11*x + 6 = 94"}},
            "11*x = 94 - 6 = 88; x = 88 / 11 = 8",
        ),
        (
            "simple_equations",
            {"metadata": {"variable": "w", "equation": "-6*w - 10 = -82"}},
            "6*w = -10 + 82 = 72; w = 72 / 6 = 12",
        ),
        ("simple_equations", {"metadata": {"variable": "o", "equation": "8 - o = -2"}}, "o = 8 + 2 = 10"),
        ("simple_equations", {"metadata": {"variable": "o", "equation": "0 = 0"}}, None),
        ("time_intervals", {"question": "from 18:34 to 21:22?"}, "82 - 34 = 48; 20 - 18 = 2"),
    ],
)
def test_steps_by_hand(family: str, item: dict[str, Any], expected: str | None) -> None:
    assert steps(family, item) == expected


def test_an_unknown_family_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        steps("sudoku", {})
