"""Which scorers of reasoning-gym may run where, and what must not reach them.

The score is reasoning-gym's own, with three precautions:

* A scorer runs in our process only if it is the base class's (comparison of strings), or one that was read and
  found harmless (``IN_PROCESS``). All others run in a worker process with a deadline.
* Some scorers hand the answer to ``eval`` or to sympy's parser, which evaluates it. Answers that are not plain
  arithmetic, or a plain list, are wrong anyway; ``screened`` keeps them away, so that no text of a model is ever
  run as code.
* A few scorers give full marks to wrong answers. ``screened`` and ``judge`` close the holes that were found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

__all__ = ["IN_PROCESS", "MAX_ANSWER_CHARS", "judge", "screened"]

MAX_ANSWER_CHARS = 16_384
"""A longer answer is wrong without being read. The longest right answer of any family has about 2,000 characters."""

IN_PROCESS: Mapping[str, tuple[str, ...]] = {
    # Family: the metadata that its scorer reads. Each scorer is a comparison of numbers or letters, read line by line.
    "chain_sum": (),  # Decimal(answer) == Decimal(oracle)
    "complex_arithmetic": ("result",),  # float() of the two parts, distance
    "decimal_chain_sum": (),  # Decimal(answer) == Decimal(oracle)
    "fraction_simplification": (  # two int()
        "numerator",
        "denominator",
        "simplified_numerator",
        "simplified_denominator",
    ),
    "products": (),  # Decimal(answer) == Decimal(oracle)
    "spell_backward": (),  # letter by letter
    "time_intervals": ("task_type",),  # int() of the parts
}

# Names that the integration families use; single letters are variables.
_FUNCTIONS = "exp|log|ln|sqrt|sin|cos|tan|sec|csc|cot|asin|acos|atan|sinh|cosh|tanh|Abs|abs|pi"
# Numbers, variables, known functions, operators. No quotes, brackets, underscores or attributes, so nothing can be
# called by a trick. Possessive quantifiers keep it linear.
_ARITHMETIC = re.compile(
    rf"(?:\d++(?:\.\d*+)?+|\.\d++|(?:{_FUNCTIONS}|[A-Za-z])(?![A-Za-z0-9_.])|[-+*/^()=\s])*+", re.ASCII
)
# Words, numbers and lists of them. No parentheses, dots or colons, so nothing can be called at all.
_LISTS = re.compile(r"[A-Za-z0-9_\s,'\"\[\]-]*", re.ASCII)

_ALLOWED: Mapping[str, re.Pattern[str]] = {
    "countdown": _ARITHMETIC,
    "intermediate_integration": _ARITHMETIC,
    "polynomial_multiplication": _ARITHMETIC,
    "puzzle24": _ARITHMETIC,
    "simple_integration": _ARITHMETIC,
    "binary_matrix": _LISTS,
    "n_queens": _LISTS,
    "spiral_matrix": _LISTS,
    "string_insertion": _LISTS,
    # Not a number compares as equal to everything in these two.
    "complex_arithmetic": re.compile(r"[-+0-9.()ijeIJE\s]*", re.ASCII),
    "number_sorting": re.compile(r"[-+0-9.eE,'\"\[\]\s]*", re.ASCII),
    # These raise at a wrong format, which would be taken for a failure of the evaluator.
    "boxnet": re.compile(r"\s*+\{.*", re.DOTALL),
    "game_of_life": re.compile(r"\s*+\[.*", re.DOTALL),
    "prime_factorization": re.compile(r"\s*+[0-9]{1,50}+\s*+(?:×\s*+[0-9]{1,50}+\s*+)*+"),
}


def screened(family: str, answer: str) -> str | None:
    """Why ``answer`` is wrong without asking the scorer; None when the scorer may see it. Linear in its length."""
    if len(answer) > MAX_ANSWER_CHARS:
        return f"the answer is longer than {MAX_ANSWER_CHARS} characters"
    allowed = _ALLOWED.get(family)
    if allowed is not None and not allowed.fullmatch(answer):
        return "the answer contains what no right answer of this family contains"
    return None


def judge(dataset: Any, family: str, answer: str, entry: Mapping[str, Any]) -> float:
    """The score of a screened answer, in [0, 1]; 1 is right. Whatever the family's scorer raises is passed on."""
    if family == "game_of_life_halting":  # its scorer gives 1.0 to any text
        return float(answer == entry["answer"])
    score = float(dataset.score_answer(answer, entry))
    if family == "coin_flip" and score == 1.0 and not _close(answer, entry["answer"]):
        return 0.0  # its partial credit for a common prefix reaches 1.0
    return score


def _close(answer: str, oracle: str) -> bool:
    return abs(float(Fraction(answer.replace(",", ""))) - float(oracle)) <= 1e-4
