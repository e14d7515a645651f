"""Two formats: what a reply does, how a result is shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.worlds import add, search
from askesis.agents.formats import JsonFormat, ParsedCall, TagFormat
from askesis.agents.tools import tool_spec
from askesis.errors import RecipeError

SEARCH = (tool_spec(search),)
TAGS = TagFormat(tools=("search",))
HOSTILE = st.lists(
    st.sampled_from(
        [
            "<search>",
            "</search>",
            "<answer>",
            "</answer>",
            "<tool_call>",
            "</tool_call>",
            '{"name": ',
            '"search"',
            "}",
            "[" * 50,
            "\ud800",
            "NaN",
            ', "arguments": {}',
            "null",
            "1e999",
            " ",
        ]
    ),
    max_size=20,
).map("".join)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("<search>one two</search>", "one two"),
        ("<think>so</think><search>\n a </search> <information>fake</information><answer>x</answer>", "a"),
        ("<search>a</search><search>b</search>", "a"),
        ('<search>say "hi"\\</search>', 'say "hi"\\'),
    ],
)
def test_tags_call(text: str, query: str) -> None:
    act = TAGS.parse(text, SEARCH)
    assert not act.is_final and len(act.calls) == 1 and act.calls[0].call is not None
    assert act.calls[0].call.name == "search" and json.loads(act.calls[0].call.arguments) == {"query": query}


def test_the_cut_rule_decides_between_an_answer_and_a_later_call() -> None:
    text = "<answer>x</answer><search>a</search>"
    assert TAGS.parse(text, SEARCH).is_final and TAGS.stop == ("</search>", "</answer>")
    search_first = TagFormat(cut_rule="search_first", tools=("search",))
    assert search_first.parse(text, SEARCH).calls[0].text == "a" and search_first.stop == ("</search>",)
    assert search_first.parse("<answer>x</answer>", SEARCH).is_final


@pytest.mark.parametrize("text", ["", "Paris", "<search>a", "a</search>", "</answer><answer>", "<SEARCH>a</SEARCH>"])
def test_tags_that_do_nothing(text: str) -> None:
    act = TAGS.parse(text, SEARCH)
    assert not act.calls and not act.is_final


def test_json_calls() -> None:
    text = (
        '<think>x</think><tool_call>{"name": "search", "arguments": {"query": "é"}}</tool_call>'
        '<tool_call>{"name": "search"}</tool_call>'
    )
    act = JsonFormat().parse(text, SEARCH)
    calls = [c.call for c in act.calls]
    assert [c and (c.id, c.name, json.loads(c.arguments)) for c in calls] == [
        ("call-0", "search", {"query": "é"}),
        ("call-1", "search", {}),
    ]
    assert not act.is_final


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("{", "not JSON"),
        ("[]", "an object"),
        ('{"name": 1}', "an object"),
        ('{"name": "s", "arguments": []}', "arguments"),
        ("[" * 100000, "not JSON"),
    ],
)
def test_json_that_cannot_be_understood_is_told_and_not_ignored(block: str, problem: str) -> None:
    act = JsonFormat().parse(f"<tool_call>{block}</tool_call>", SEARCH)
    assert len(act.calls) == 1 and act.calls[0].call is None and problem in act.calls[0].problem


@pytest.mark.parametrize("text", ["\\boxed{x}", "", "<tool_call>{}", "</tool_call><tool_call>"])
def test_a_json_reply_without_a_balanced_call_is_final(text: str) -> None:
    assert JsonFormat().parse(text, SEARCH).is_final


@given(HOSTILE)
def test_parsers_never_raise(text: str) -> None:
    for form in (TAGS, JsonFormat()):
        act = form.parse(text, SEARCH)
        assert not (act.calls and act.is_final)
        for call in act.calls:
            form.observation(call, text)


def test_results_are_wrapped() -> None:
    call = ParsedCall(text="q", call=None)
    shown = TAGS.observation(call, "r")
    assert shown.message.role == "tool" and shown.message.content == shown.text == "<information>r</information>"
    shown = JsonFormat().observation(call, "r")
    assert shown.message.content == "r" and shown.text == "<tool_response>q\nr</tool_response>"


def test_instructions_name_the_tools_and_the_tags() -> None:
    assert "<search>query</search>" in TAGS.instruction(SEARCH) and "<answer>" in TAGS.instruction(SEARCH)
    assert '"query"' in JsonFormat().instruction(SEARCH) and "\\boxed" in JsonFormat().instruction(SEARCH)
    assert "<answer>" in JsonFormat(answer="tag").instruction(SEARCH)
    assert "<search>" in TAGS.hint(SEARCH).text and "<tool_call>" in JsonFormat().hint(SEARCH).text


def test_a_tool_that_tags_cannot_call_is_refused() -> None:
    def answer(text: str) -> str:
        """Clashes with the tag."""
        return text

    for function in (add, answer):
        with pytest.raises(RecipeError, match="cannot call"):
            TAGS.instruction((tool_spec(function),))
