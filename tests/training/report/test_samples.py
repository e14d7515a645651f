"""What is shown of long and many traces."""

from __future__ import annotations

import math

import pytest

from askesis.training.report.data import SampleGroup, SampleTrace, TokenView
from askesis.training.report.samples import (
    HEAD_TOKENS,
    MAX_GROUPS,
    MAX_MEMBERS,
    SAMPLES_BYTES,
    TAIL_TOKENS,
    group_views,
    token_class,
)


def group(tokens: list[TokenView], members: int = 1) -> SampleGroup:
    trace = SampleTrace(label="x", reward=1.0, completed=True, stop="terminated", tokens=tokens)
    return SampleGroup(question="q", members=[trace] * members)


def written(text: str, logprob: float | None = -0.1) -> TokenView:
    return TokenView(text=text, sampled=True, id=5, logprob=logprob)


def given(text: str) -> TokenView:
    return TokenView(text=text, sampled=False)


def test_prompt_is_apart_and_given_text_is_joined() -> None:
    views, left_out = group_views([group([given("a"), given("b"), written("c"), given("d"), given("e"), written("f")])])
    member = views[0].members[0]
    assert (member.prompt, member.num_prompt, member.num_sampled, left_out) == ("ab", 2, 2, 0)
    assert [(span.text, bool(span.css)) for span in member.spans] == [("c", True), ("de", False), ("f", True)]
    assert member.spans[0].title == "id 5, log-prob -0.100, 90.5 %"


@pytest.mark.parametrize(
    ("probability", "css"), [(1.0, "p4"), (0.9, "p4"), (0.89, "p3"), (0.3, "p2"), (0.06, "p1"), (0.04, "p0")]
)
def test_token_class_follows_the_probability(probability: float, css: str) -> None:
    assert token_class(written("x", math.log(probability) + 1e-9)) == css


def test_odd_tokens_have_a_class_too() -> None:
    assert token_class(written("x", None)) == "px"
    assert token_class(written("x", math.nan)) == "px"
    assert token_class(written("\n", -1e9)) == "p0 nl"
    assert token_class(written(" \n", 1e-5)) == "p4 nl"


def test_long_traces_lose_their_middle_and_keep_the_answer() -> None:
    tokens = [written(str(i)) for i in range(2000)]
    spans = group_views([group(tokens)])[0][0].members[0].spans
    assert len(spans) == HEAD_TOKENS + 1 + TAIL_TOKENS
    assert spans[HEAD_TOKENS].cut == 2000 - HEAD_TOKENS - TAIL_TOKENS
    assert (spans[0].text, spans[HEAD_TOKENS - 1].text, spans[-1].text) == ("0", "399", "1999")


def test_long_tokens_are_cut() -> None:
    assert len(group_views([group([written("x" * 10_000)])])[0][0].members[0].spans[0].text) < 200


def test_many_groups_and_members_are_counted() -> None:
    views, left_out = group_views([group([written("x")], members=MAX_MEMBERS + 3)] * (MAX_GROUPS + 5))
    assert (len(views), left_out) == (MAX_GROUPS, 5)
    assert {view.left_out for view in views} == {3}


def test_the_budget_ends_in_a_note() -> None:
    full = group([written('"' * 100)] * 600, members=MAX_MEMBERS)
    views, left_out = group_views([full] * MAX_GROUPS)
    assert left_out > 0
    size = sum(len(span.text) * 5 for v in views for m in v.members for span in m.spans)
    assert 0.5 * SAMPLES_BYTES < size <= SAMPLES_BYTES
    assert any(span.cut for v in views for m in v.members for span in m.spans)


def test_a_trace_without_any_sampled_token() -> None:
    member = group_views([group([given("only the prompt")])])[0][0].members[0]
    assert (member.prompt, member.num_sampled, list(member.spans)) == ("only the prompt", 0, [])
