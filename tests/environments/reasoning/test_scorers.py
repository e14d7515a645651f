"""What may run in our process, and what must not reach a scorer."""

from __future__ import annotations

import ast
import inspect
import textwrap
import time
from typing import Any

import pytest

from askesis.environments.reasoning.families import make_dataset
from askesis.environments.reasoning.scorers import IN_PROCESS, MAX_ANSWER_CHARS, judge, screened

_TRUSTED_CALLS = {
    # builtins on texts and numbers
    *(
        "len",
        "isinstance",
        "range",
        "abs",
        "int",
        "float",
        "complex",
        "Decimal",
        "map",
        "any",
        "enumerate",
        "max",
        "min",
    ),
    # methods of texts, lists and matches, and mathematics
    *("strip", "lower", "replace", "split", "startswith", "endswith", "match", "group", "exp"),
    # defined in the same source, which is read as well
    *("compute_decimal_reward", "_extract_fraction", "parse_string_to_complex", "parse_time", "parse_datetime"),
}


def _source(family: str) -> str:
    """The scorer's source with that of the helpers it calls."""
    import reasoning_gym.factory
    from reasoning_gym import utils

    dataset = reasoning_gym.factory.DATASETS[family][0]
    parts = [dataset.score_answer, utils.compute_decimal_reward]
    parts += [getattr(dataset, n) for n in ("_extract_fraction", "parse_string_to_complex") if hasattr(dataset, n)]
    return "\n".join(textwrap.dedent(inspect.getsource(part)) for part in parts)


@pytest.mark.parametrize("family", sorted(IN_PROCESS))
def test_a_scorer_in_our_process_calls_only_harmless_functions(family: str) -> None:
    called = set()
    for node in ast.walk(ast.parse(_source(family).replace("@staticmethod", ""))):
        assert not isinstance(node, ast.Import | ast.ImportFrom | ast.While) or "answer[0]" in ast.unparse(node)
        if isinstance(node, ast.Call):
            called.add(node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func))
    assert called <= _TRUSTED_CALLS
    for word in ("eval", "exec", "sympy", "parse_expr", "literal_eval", "__", "open(", "os."):
        assert word not in _source(family)


@pytest.mark.parametrize("family", sorted(IN_PROCESS))
def test_the_listed_metadata_is_all_that_the_scorer_reads(family: str) -> None:
    dataset = make_dataset(family, {}, seed=3, size=20)
    for index in range(20):
        item = dataset[index]
        entry = {"answer": item["answer"], "metadata": {key: item["metadata"][key] for key in IN_PROCESS[family]}}
        assert judge(dataset, family, item["answer"], entry) == 1.0
        assert judge(dataset, family, "x", entry) < 1.0


ATTACKS = [
    "__import__('os').system('true')",
    "exec(chr(112))",
    "().__class__",
    "x.__class__",
    "lambda: 1",
    "open(0)",
    "input()",
    "eval(input())",
    "1 if x else 2",
    "f'{x}'",
    "`x`",
    "Integral(x, x)",
]


@pytest.mark.parametrize("answer", ATTACKS)
@pytest.mark.parametrize(
    "family",
    [
        "countdown",
        "puzzle24",
        "simple_integration",
        "intermediate_integration",
        "polynomial_multiplication",
        "binary_matrix",
        "n_queens",
        "spiral_matrix",
        "string_insertion",
    ],
)
def test_code_never_reaches_a_scorer_that_evaluates(family: str, answer: str) -> None:
    lists_only_words = answer.replace(" ", "").isalnum()
    assert screened(family, answer) is not None or lists_only_words


def test_every_scorer_that_evaluates_is_screened() -> None:
    """A new version of reasoning-gym must not bring an unscreened one."""
    import reasoning_gym.factory

    for family, (dataset, _) in reasoning_gym.factory.DATASETS.items():
        source = inspect.getsource(dataset.score_answer)
        if "eval(answer" in source or "parse_expr(answer" in source:
            assert screened(family, "f(x.y)") is not None, family


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("countdown", "75*(41 - 29) + 25 - 23 / 72.5"),
        ("puzzle24", " 4 * 8 - (6 + 2) "),
        ("polynomial_multiplication", "-3*x**3 + 2*x*y - 7"),
        ("simple_integration", "X**2/2 + 3*X + C"),
        ("intermediate_integration", "-exp(2*x)*sin(3*x + 1)/13 + log(x**2 + 1) + asin(x) + C"),
        ("spiral_matrix", "1 2 3 -4"),
        ("binary_matrix", "0 1\n1 0"),
        ("n_queens", "_ Q _ _\n_ _ _ Q"),
        ("string_insertion", "ABCDE"),
        ("complex_arithmetic", "-3.0 + 2.5i"),
        ("number_sorting", "['-81.87', '1e5']"),
        ("prime_factorization", "2 × 3 × 5"),
        ("boxnet", ' {"a": 1}'),
        ("game_of_life", "[[0, 1]]"),
        ("gcd", "anything at all ()[]"),
    ],
)
def test_what_a_right_answer_looks_like_passes(family: str, answer: str) -> None:
    assert screened(family, answer) is None


@pytest.mark.parametrize(
    ("family", "answer"),
    [
        ("complex_arithmetic", "nan"),
        ("complex_arithmetic", "n a n i"),
        ("complex_arithmetic", "inf"),
        ("number_sorting", "[NaN, NaN]"),
        ("number_sorting", "[Infinity]"),
        ("prime_factorization", "two"),
        ("prime_factorization", "9" * 5000),
        ("boxnet", "-1"),
        ("boxnet", "[{}]"),
        ("game_of_life", "{}"),
        ("gcd", "1" * (MAX_ANSWER_CHARS + 1)),
    ],
)
def test_what_would_fool_or_break_a_scorer_is_refused(family: str, answer: str) -> None:
    assert screened(family, answer) is not None


@pytest.mark.parametrize("family", ["countdown", "spiral_matrix", "prime_factorization", "boxnet", "number_sorting"])
@pytest.mark.parametrize("piece", ["1", "1.", "x", "sin", "(", " ", "2 × ", "[", "e"])
def test_screening_is_linear(family: str, piece: str) -> None:
    text = (piece * MAX_ANSWER_CHARS)[: MAX_ANSWER_CHARS - 1] + "#"
    started = time.perf_counter()
    screened(family, text)
    assert time.perf_counter() - started < 0.05


class _Always:
    """A data set whose scorer gives full marks."""

    def score_answer(self, answer: str, entry: dict[str, Any]) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("family", "answer", "oracle", "score"),
    [
        ("game_of_life_halting", "nonsense", "True", 0.0),
        ("game_of_life_halting", "True", "True", 1.0),
        ("coin_flip", "0", "0.171875", 0.0),
        ("coin_flip", "11/64", "0.171875", 1.0),
        ("coin_flip", "0.17188", "0.171875", 1.0),
        ("gcd", "x", "y", 1.0),
    ],
)
def test_known_holes_are_closed(family: str, answer: str, oracle: str, score: float) -> None:
    assert judge(_Always(), family, answer, {"answer": oracle}) == score


def test_the_holes_exist_upstream() -> None:
    """When this fails, a hole was closed upstream and its patch here can go."""
    halting = make_dataset("game_of_life_halting", {}, seed=1, size=1)
    assert halting.score_answer("nonsense", halting[0]) == 1.0
    coins = make_dataset("coin_flip", {}, seed=1, size=5)
    assert any(coins.score_answer("0", coins[i]) == 1.0 for i in range(5))
    numbers = make_dataset("complex_arithmetic", {}, seed=1, size=1)
    assert numbers.score_answer("nan", numbers[0]) == 1.0
