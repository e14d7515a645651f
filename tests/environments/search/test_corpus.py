"""Passages, their exchange form, and files of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.environments.search.corpus import Hit, Passage, read_jsonl_corpus, render
from askesis.errors import RecipeError


def test_contents_go_there_and_back() -> None:
    passage = Passage(id="1", title="T", text="a\nb")
    assert passage.contents == "T\na\nb" and Passage.of_contents("1", passage.contents) == passage
    assert Passage.of_contents("1", '"Quoted"\nx').title == "Quoted"


def test_results_are_rendered_as_in_search_r1() -> None:
    hits = [Hit(passage=Passage(id=str(i), title=f"T{i}", text=f"x{i}"), score=1.0) for i in (5, 6)]
    assert render(hits) == "Doc 1(Title: T5) x5\nDoc 2(Title: T6) x6" and render([]) == ""


def test_both_forms_of_a_line_are_read(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text('{"id": 7, "contents": "\\"A\\"\\nb"}\n\n{"title": "C", "text": "d"}\n')
    corpus = read_jsonl_corpus(file)
    assert [(p.id, p.title, p.text) for p in (corpus[0], corpus[1])] == [("7", "A", "b"), ("2", "C", "d")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "empty"),
        ("{", "line 1"),
        ("[]", "not an object"),
        ('{"id": 1}', "no text"),
        ('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "same id"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "c.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError) as error:
        read_jsonl_corpus(file)
    assert message in str(error.value)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_jsonl_corpus(tmp_path / "none.jsonl")
