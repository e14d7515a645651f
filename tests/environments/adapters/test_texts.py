"""Texts between policies and foreign worlds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.adapters.texts import act_text, shown


@pytest.mark.parametrize(
    ("reply", "act"),
    [
        ("<answer> 3 </answer>", "3"),
        ("<answer>1</answer> no: <answer>2</answer>", "2"),
        ("  left\n", "left"),
        ("<think>maybe [3]</think> [4]", "[4]"),
        ("<think><answer>9</answer></think>", "9"),
        ("<answer>open", "<answer>open"),
        ("", ""),
    ],
)
def test_what_a_reply_does(reply: str, act: str) -> None:
    assert act_text(reply) == act


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shown("abcdef", limit=4) == "abcd\n[cut: 6 characters]"
    assert shown("abcd", limit=4) == "abcd"


@given(st.text(st.characters(categories=["L", "N", "Cs", "Cc", "Zs"])))
def test_whatever_is_shown_can_be_written(text: str) -> None:
    shown(text).encode()
    assert shown("\ud800x") == "?x"
