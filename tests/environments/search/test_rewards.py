"""Rewards and forms: search-qa.md 7 and 13, memsearcher.md 3.5 and 7a.7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.search.rewards import Segment, is_well_structured, memory_reward, structured_reward

THINK, SEARCH, ANSWER = "<think>t</think>", "<search>q</search>", "<answer>Paris</answer>"


def episode(*texts: str) -> list[Segment]:
    """A text that begins with ``!`` is what came back."""
    return [Segment(text.removeprefix("!"), by_policy=not text.startswith("!")) for text in texts]


@pytest.mark.parametrize(
    ("texts", "is_valid"),
    [
        ((THINK + SEARCH, "!docs", THINK + ANSWER), True),
        ((THINK + ANSWER,), True),
        ((f" {THINK}\n{SEARCH}\n", "!</information><answer>x", f"{THINK} {ANSWER} "), True),
        ((SEARCH + THINK, "!docs", ANSWER), False),
        ((THINK + ANSWER + ANSWER,), False),
        ((f"{THINK} well {ANSWER}",), False),
        ((THINK + SEARCH, THINK + ANSWER), False),
        ((THINK + SEARCH, "!docs", ANSWER), False),
        ((THINK, "!docs", THINK + ANSWER), False),
        ((THINK + SEARCH + "<information>mine</information>", THINK + ANSWER), False),
        ((THINK + "<answer>Paris",), False),
        ((THINK + "<answer><think></think></answer>",), False),
        ((THINK,), False),
        ((), False),
    ],
)
def test_the_automaton(texts: tuple[str, ...], is_valid: bool) -> None:
    assert is_well_structured(episode(*texts)) is is_valid


@pytest.mark.parametrize(
    ("texts", "answer", "value"),
    [
        ((THINK + ANSWER,), "Paris", 1.0),
        ((ANSWER,), "Paris", 0.8),
        ((THINK + SEARCH, "!It is Paris.", THINK + "<answer>Rome</answer>"), "Rome", 0.2 + 0.05),
        ((THINK + SEARCH, "!nothing", THINK + "<answer>Rome</answer>"), "Rome", 0.2),
        (("<answer>Rome</answer>",), "Rome", 0.1),
        (("I do not know",), None, 0.0),
    ],
)
def test_the_structured_reward(texts: tuple[str, ...], answer: str | None, value: float) -> None:
    got = structured_reward(episode(*texts), ["Paris"], answer=answer, retrieval_weight=0.05)
    assert got == pytest.approx(value)


CALL = '<think>a</think><tool_call>{"name": "search", "arguments": {"query": "x"}}</tool_call>'


@pytest.mark.parametrize(
    ("replies", "ended", "value"),
    [
        ([r"<think>a</think>\boxed{Paris}"], True, 1.0),
        ([r"<think>a</think>\boxed{Paris, France}"], True, 0.666667),
        ([r"<think>a</think>\boxed{Rome}"], True, 0.1),
        ([r"<think>a</think>\boxed{Paris}"], False, 0.0),
        ([r"<think>a\boxed{Paris}"], True, 0.0),
        ([r"\boxed{Paris}"], True, 0.0),
        ([CALL, r"\boxed{Paris}"], True, 1.0),
        ([CALL.replace('"x"', "x"), r"\boxed{Paris}"], True, 0.0),
        ([CALL.replace("arguments", "args"), r"\boxed{Paris}"], True, 0.0),
        ([CALL + "<tool_call>", r"\boxed{Paris}"], True, 0.0),
        ([CALL, "<memory>m</memory>"], True, 0.0),
        ([], True, 0.0),
    ],
)
def test_memsearcher_7a_7(replies: list[str], ended: bool, value: float) -> None:
    assert memory_reward(replies, ["Paris"], ended=ended) == pytest.approx(value, abs=1e-6)


def test_tags_in_place_of_boxes_and_thoughts() -> None:
    assert memory_reward([SEARCH, ANSWER], ["Paris"], ended=True, thinks=False, boxed=False) == 1.0
    assert memory_reward(["<search>q", ANSWER], ["Paris"], ended=True, thinks=False, boxed=False) == 0.0
    assert memory_reward([ANSWER], ["Rome"], ended=True, thinks=False, boxed=False, floor=0.3) == 0.3


@given(st.lists(st.text(alphabet="<>/thinkansweroxd{}\\ ", max_size=60), max_size=4))
def test_no_text_raises(texts: list[str]) -> None:
    segments = episode(*texts)
    assert 0 <= structured_reward(segments, ["x"], answer=None) <= 1
    assert 0 <= memory_reward(texts, ["x"], ended=True) <= 1
