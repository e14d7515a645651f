"""Published forms of seven data sets, read by the package datasets from small files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from askesis.environments.search.question_sets import QUESTION_SETS, load_questions, question_of
from askesis.errors import MissingExtra, RecipeError

FORMS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "flashrag": (
        {"id": "test_0", "question": "who sings", "golden_answers": ["A", "B", "A"], "metadata": {"type": "bridge"}},
        ("A", "B"),
    ),
    "nq": ({"question": "who sings", "answer": ["A", "B"]}, ("A", "B")),
    "hotpotqa": (
        {"_id": "5a", "question": "Who sings?", "answer": "A", "type": "bridge", "level": "hard"}
        | {"supporting_facts": [["T", 0]], "context": [["T", ["x", "y"]]]},
        ("A",),
    ),
    "2wikimultihopqa": ({"_id": "b", "question": "Who?", "answer": "A", "type": "comparison", "evidences": []}, ("A",)),
    "musique": (
        {"id": "2hop__1", "question": "Who?", "answer": "A", "answer_aliases": ["B"], "answerable": True}
        | {"paragraphs": [{"idx": 0, "title": "T", "paragraph_text": "x", "is_supporting": True}]},
        ("A", "B"),
    ),
    "popqa": ({"id": 4, "question": "Who?", "possible_answers": '["A", "B"]', "subj": "S"}, ("A", "B")),
    "triviaqa": (
        {"question_id": "tc_1", "question": "Who?", "answer": {"value": "A", "aliases": ["B", "A"], "type": "W"}},
        ("A", "B"),
    ),
    "bamboogle": ({"Question": "Who?", "Answer": "A"}, ("A",)),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_each_form_is_read(name: str, tmp_path: Path) -> None:
    record, golds = FORMS[name]
    file = tmp_path / "q.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for _ in range(2)))
    questions = load_questions(name, str(file))
    assert len(questions) == 2 and questions[0].golds == golds and questions[0].text.endswith("?")
    assert questions[0].tags == ((record["type"],) if "type" in record else ())


def test_other_kinds_of_files(tmp_path: Path) -> None:
    records = [{"question": "Who?", "answer": "A"}, {"question": "What?", "answer": "B"}]
    (tmp_path / "q.json").write_text(json.dumps(records))
    (tmp_path / "q.csv").write_text("Question,Answer\nWho?,A\nWhat?,B\n")
    (tmp_path / "q.tsv").write_text('id\tquestion\tpossible_answers\n1\tWho?\t["A"]\n2\tWhat?\t["B"]\n')
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "q.parquet")
    for suffix in ("json", "csv", "tsv", "parquet"):
        found = load_questions("q", str(tmp_path / f"q.{suffix}"))
        assert [(q.text, q.golds) for q in found] == [("Who?", ("A",)), ("What?", ("B",))], suffix


def test_unanswerable_questions_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    lines = [{"question": "Who?", "answer": "A", "answerable": flag} for flag in (True, False)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert len(load_questions("musique", str(file))) == 1


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"question": "Q"},
        {"question": "", "answer": "A"},
        {"question": "Q", "answer": " "},
        {"question": 3, "answer": "A"},
        {"question": "Q", "possible_answers": "not json"},
        {"question": "Q", "golden_answers": []},
    ],
)
def test_a_record_without_question_or_answer_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"(?s)no question.*line 3"):
        question_of(record, where="line 3", fallback_id="x")


def test_sources_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "none.jsonl").write_text("")
    for source in (str(tmp_path / "missing.jsonl"), str(tmp_path / "bad.json"), str(tmp_path / "none.jsonl")):
        with pytest.raises(RecipeError) as error:
            load_questions("nq", source)
        assert source in str(error.value)
    with pytest.raises(RecipeError, match="neither a file nor a data set"):
        load_questions("nq", "some words")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"askesis\[search\]"):
        load_questions("nq", "a.jsonl")


def test_the_seven_are_known() -> None:
    assert sorted(QUESTION_SETS) == ["2wikimultihopqa", "bamboogle", "hotpotqa", "musique", "nq", "popqa", "triviaqa"]
    assert all(held_out for _, held_out in QUESTION_SETS.values())
