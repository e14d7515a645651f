"""Tags in hostile text: nothing raises, nothing is slow."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.agents.parsing import balanced, blocks, first_block, last_boxed

TAGS = st.lists(
    st.sampled_from(["<a>", "</a>", "x", "\\boxed{", "}", "\\boxed ", "\\fbox{", "{", "$", "\n", "\ud800"]), max_size=30
).map("".join)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<a> x </a>", ["x"]),
        ("<a>1</a><a>2</a>", ["1", "2"]),
        ("<a><a>1</a></a>", ["1"]),
        ("<a>1", []),
        ("</a><a>", []),
        ("<a>1</a></a><a>", []),
        ("", []),
    ],
)
def test_blocks(text: str, found: list[str]) -> None:
    assert blocks(text, "a") == found


def test_the_first_block_counts_and_an_empty_one_is_none() -> None:
    assert first_block("<a>1</a><a>2</a>", "a") == "1"
    assert first_block("<a> </a><a>2</a>", "a") is None and first_block("<a>1</a><a>", "a") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{Paris}.", "Paris"),
        (r"\boxed{1} then \boxed{a{b}c}", "a{b}c"),
        (r"\boxed x", "x"),
        (r"$\boxed x$ y", "x"),
        (r"\fbox{old}", "old"),
        (r"\boxed{never closed", None),
        (r"\boxed", None),
        ("Paris", None),
        (r"\boxed{}", ""),
    ],
)
def test_boxed(text: str, answer: str | None) -> None:
    assert last_boxed(text) == answer


@given(TAGS)
def test_nothing_raises_and_blocks_need_balance(text: str) -> None:
    last_boxed(text)
    assert balanced(text, "a") or not blocks(text, "a")
    assert all("<a>" not in block and "</a>" not in block for block in blocks(text, "a"))


@pytest.mark.parametrize("unit", ["<a>", "</a>", "<a></a>", "\\boxed{", "<a", "{"])
def test_time_is_linear(unit: str) -> None:
    text = unit * 100_000
    before = time.process_time()
    blocks(text, "a")
    last_boxed(text)
    assert time.process_time() - before < 1.0
