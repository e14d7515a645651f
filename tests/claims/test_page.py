"""The page of published claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from askesis.claims.checking import check
from askesis.claims.judging import judge
from askesis.claims.page import build_page, load_records, page_text, publish
from askesis.claims.records import to_record
from askesis.errors import AskesisError

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def record(make_study: Any, make_run: Any) -> dict[str, Any]:
    made = [
        make_run(arm, seed, [3, 4] if arm == "ours" else [1, 2]) for arm in ("ours", "nsr", "psr") for seed in (0, 1, 2)
    ]
    return to_record(judge(make_study(name="vespo"), "laptop", 3, made, wall_s=120.0), {"askesis": "0"})


def test_the_page_in_the_repository_is_up_to_date() -> None:
    records = load_records(DOCS)
    assert (DOCS / "claims.md").read_text(encoding="utf-8") == page_text(records)
    assert all((DOCS / "claims" / f"{record['claim']}.svg").is_file() for record in records)


def test_a_published_result_is_on_the_page(record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(record))
    page = publish([tmp_path / "result.json"], tmp_path / "docs")
    text = page.read_text()
    assert "| [vespo](#vespo) | Ours is better. | Nothing. | pass@1, easy:<br>ours 87.5 [" in text
    assert "<br>psr 37.5 [" in text and "holds: +50.0 [+50.0, +50.0] over nsr | laptop, 3 seeds, 2.0 minutes |" in text
    assert "## vespo" in text and "claims/vespo.svg" in text and (tmp_path / "docs/claims/vespo.svg").is_file()
    assert "| easy | psr | baseline | 37.5 [" in text and "- ours: with a note" in text
    assert build_page(tmp_path / "docs").read_text() == text


def test_a_failed_claim_stays_on_the_page(record: dict[str, Any]) -> None:
    text = page_text([{**record, "holds": False, "reason": "It is not so."}])
    assert "**fails**" in text and "**Verdict: fails.** It is not so." in text


def test_without_results_the_page_says_so() -> None:
    assert "No result is published yet." in page_text([])


def test_only_judged_results_of_this_format_are_published(make_study: Any, record: Any, tmp_path: Path) -> None:
    check(make_study(), "smoke", folder=tmp_path)
    with pytest.raises(AskesisError, match="not judged"):
        publish([tmp_path / "result.json"], tmp_path)
    (tmp_path / "old.json").write_text(json.dumps({**record, "format_version": 0}))
    with pytest.raises(AskesisError, match="no result of a claim"):
        publish([tmp_path / "old.json"], tmp_path)
