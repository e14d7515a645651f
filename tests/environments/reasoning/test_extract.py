"""Finding the answer in a reply."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.reasoning.extract import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<answer>7</answer>", "7"),
        ("<think>3 + 4</think><answer> 7\n</answer> done", "7"),
        ("<answer>1</answer><answer>2</answer>", "2"),
        ("<answer>1</answer> and <answer>2", "1"),
        ("<answer>a<answer>b</answer>", "b"),
        ("<answer>a</answer></answer>", "a"),
        ("<answer></answer>", ""),
        ("<answer>two\nlines</answer>", "two\nlines"),
        ("<answer>7", None),
        ("7</answer>", None),
        ("</answer>7<answer>", None),
        ("<Answer>7</Answer>", None),
        ("7", None),
        ("", None),
        ("<answer>\ud800\x00</answer>", "\ud800\x00"),
    ],
)
def test_the_last_closed_answer_counts(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


pieces = st.lists(st.sampled_from(["<answer>", "</answer>", "<answer", "x", " "]) | st.text(max_size=3)).map("".join)


@given(pieces)
def test_any_text_gives_none_or_a_part_of_it_without_a_closing_tag(text: str) -> None:
    answer = extract_answer(text)
    assert answer is None or (answer in text and "</answer>" not in answer and answer == answer.strip())


@given(pieces, st.text().filter(lambda t: "answer>" not in t))
def test_what_is_appended_is_found(before: str, answer: str) -> None:
    assert extract_answer(f"{before}<answer>{answer}</answer>") == answer.strip()


@pytest.mark.parametrize("piece", ["<answer>", "</answer>", "<answer></answer>", "<", "x"])
def test_it_is_linear(piece: str) -> None:
    text = piece * (65_536 // len(piece))
    started = time.perf_counter()
    extract_answer(text)
    assert time.perf_counter() - started < 0.05
