"""Step-by-step solutions of reasoning-gym items: what a demonstration writes between its think tags.

Each family has one pure function from an item (``question``, ``answer``, ``metadata``) to the text of its steps. Every
step is small enough for a model of a million parameters (one sum, one small product, one letter), and the last value of
the steps is the answer or its parts. Numbers are computed from the question's own numbers, never read off the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

__all__ = ["FAMILIES", "steps"]

Item = Mapping[str, Any]


def steps(family: str, item: Item) -> str | None:
    """The text between the think tags for one item of a family, or None when the item has nothing to work out.

    Raises:
        KeyError: the family has no demonstrations; :data:`FAMILIES` lists those that have.
    """
    return FAMILIES[family](item)


def _running(terms: list[tuple[str, Decimal]]) -> str:
    """``12 + 45 = 57 - 8 = 49`` from the signed terms 12, +45, -8: each result is where the next step starts."""
    total = terms[0][1]
    text = str(total)
    for sign, value in terms[1:]:
        total = total + value if sign == "+" else total - value
        text += f" {sign} {value} = {total}"
    return text


def _signed_terms(expression: str) -> list[tuple[str, Decimal]]:
    words = expression.split()
    signs = ["+", *words[1::2]]
    return [(sign, Decimal(value)) for sign, value in zip(signs, words[0::2], strict=True)]


def _chain_sum(item: Item) -> str:
    return _running(_signed_terms(item["metadata"]["expression"]))


def _basic_arithmetic(item: Item) -> str:
    """One operation at a time: parentheses first, then products, then sums, each from left to right."""
    words = item["metadata"]["expression"].split()
    parts: list[str] = []

    def apply(left: int, operator: str, right: int) -> int:
        result = {"+": left + right, "-": left - right, "*": left * right}[operator]
        parts.append(f"{left} {operator} {right} = {result}")
        return result

    def factor() -> int:
        word = words.pop(0)
        if word != "(":
            return int(word)
        inner = total()
        words.pop(0)  # the closing parenthesis
        return inner

    def product() -> int:
        value = factor()
        while words and words[0] == "*":
            value = apply(value, words.pop(0), factor())
        return value

    def total() -> int:
        value = product()
        while words and words[0] in "+-":
            value = apply(value, words.pop(0), product())
        return value

    total()
    return "; ".join(parts)


def _products(item: Item) -> str:
    left, right = (int(word) for word in item["metadata"]["expression"].split(" * "))
    tens, ones = right - right % 10, right % 10
    text = f"{left} * {tens} = {left * tens}"
    if ones:
        text += f"; {left} * {ones} = {left * ones}; {left * tens} + {left * ones} = {left * right}"
    return text


def _gcd(item: Item) -> str:
    """Euclid's algorithm; ``%`` is the remainder."""
    small, large = sorted(item["metadata"]["numbers"])
    parts = []
    while small:
        parts.append(f"{large} % {small} = {large % small}")
        large, small = small, large % small
    return "; ".join([*parts, str(large)])


def _fraction_simplification(item: Item) -> str:
    """Divide both by their smallest common prime until there is none: ``80/190 2: 40/95 5: 8/19``."""
    top, bottom = item["metadata"]["numerator"], item["metadata"]["denominator"]
    text, prime = f"{top}/{bottom}", 2
    while prime <= min(top, bottom):
        if top % prime or bottom % prime:
            prime += 1
            continue
        top, bottom = top // prime, bottom // prime
        text += f" {prime}: {top}/{bottom}"
    return text


def _leg_counting(item: Item) -> str:
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    counts = item["metadata"]["animals"]
    legs = [(count, ANIMALS[animal]) for animal, count in counts.items()]
    products = "; ".join(f"{count} * {each} = {count * each}" for count, each in legs)
    return f"{products}; {_running([('+', Decimal(count * each)) for count, each in legs])}"


def _complex_arithmetic(item: Item) -> str:
    """The four products; real part is the first minus the second, imaginary part the third plus the fourth."""
    (a, b), (c, d) = (tuple(int(part) for part in item["metadata"][key]) for key in ("num1", "num2"))
    real = f"{a} * {c} = {a * c}; {b} * {d} = {b * d}; {a * c} - {b * d} = {a * c - b * d}"
    return f"{real}; {a} * {d} = {a * d}; {b} * {c} = {b * c}; {a * d} + {b * c} = {a * d + b * c}"


def _spell_backward(item: Item) -> str:
    word = item["metadata"]["word"]
    return f"{' '.join(word)}; {' '.join(reversed(word))}"


def _count_bits(item: Item) -> str:
    """Take away the largest power of two that fits, numbering each time: ``13 1: 5 2: 1 3: 0``."""
    rest = item["metadata"]["number"]
    text, count = str(rest), 0
    while rest:
        rest -= 1 << (rest.bit_length() - 1)
        count += 1
        text += f" {count}: {rest}"
    return text


def _letter_counting(item: Item) -> str:
    """Spell each word and write after it how many have been seen so far."""
    letter, count, parts = item["metadata"]["target_letter"], 0, []
    for word in item["metadata"]["span"]:
        count += word.lower().count(letter)
        parts.append(f"{' '.join(word)} {count}")
    return "; ".join(parts)


def _simple_equations(item: Item) -> str | None:
    """Bring ``k*v + b = c`` to ``|k|*v = number``, then divide. None for ``0 = 0``, which any number solves."""
    variable = item["metadata"]["variable"]
    sides = re.fullmatch(
        rf"(?:(?P<first>-?\d+) (?P<sign>[+-]) )?(?P<k>-?\d*)\*?{variable}(?: (?P<last>[+-] \d+))? = (?P<c>-?\d+)",
        item["metadata"]["equation"],
    )
    if sides is None:
        return None
    k = int({"": "1", "-": "-1"}.get(sides["k"], sides["k"]))
    k = -k if sides["sign"] == "-" else k
    b = int(sides["first"] or (sides["last"] or "0").replace(" ", ""))
    c = int(sides["c"])
    start, take = (c, b) if k > 0 else (b, c)
    work = f" = {start} {'-' if take >= 0 else '+'} {abs(take)}" if b else ""
    value = start - take
    if abs(k) == 1:
        return f"{variable}{work} = {value}"
    return f"{abs(k)}*{variable}{work} = {value}; {variable} = {value} / {abs(k)} = {value // abs(k)}"


def _time_intervals(item: Item) -> str:
    """Minutes first, borrowing an hour where needed, then hours."""
    times = re.findall(r"(\d\d):(\d\d)", item["question"])
    (start_hour, start_minute), (end_hour, end_minute) = ((int(h), int(m)) for h, m in times)
    if end_minute < start_minute:
        end_hour, end_minute = end_hour - 1, end_minute + 60
    minutes = f"{end_minute} - {start_minute} = {end_minute - start_minute}"
    return f"{minutes}; {end_hour} - {start_hour} = {end_hour - start_hour}"


FAMILIES: Mapping[str, Callable[[Item], str | None]] = {
    "chain_sum": _chain_sum,
    "basic_arithmetic": _basic_arithmetic,
    "decimal_chain_sum": _chain_sum,
    "products": _products,
    "gcd": _gcd,
    "fraction_simplification": _fraction_simplification,
    "leg_counting": _leg_counting,
    "complex_arithmetic": _complex_arithmetic,
    "spell_backward": _spell_backward,
    "count_bits": _count_bits,
    "letter_counting": _letter_counting,
    "simple_equations": _simple_equations,
    "time_intervals": _time_intervals,
}
