"""The Markdown summary: the same numbers, and nothing that a renderer would load."""

from __future__ import annotations

import re
from collections.abc import Callable

from askesis.training.report import FailureCount, ReportData, SelfCheck, to_markdown

Make = Callable[..., ReportData]


def test_headline_and_tables(make_report: Make) -> None:
    text = to_markdown(make_report())
    lines = text.splitlines()
    assert lines[0] == r"# nano learns chain\_sum with GRPO"
    assert (
        r"**Held-out accuracy 31.2 % \[27.3, 35.4\] (before, n=500) → 82.0 % \[78.4, 85.1\] (after, n=500)**" in lines
    )
    assert "Better by 50.8 points; the intervals do not overlap." in lines
    assert r"| after | 500 | 410 | 82.0 % | \[78.4, 85.1\] | 0 | 3.4 %" in text
    assert r"| algorithm.clip\_high | 0.28 | 0.2 | quickstart.toml |" in lines
    assert "    askesis train recipes/quickstart.toml training.steps=200 seed=1" in lines
    assert text.endswith("|\n")


def test_every_table_is_rectangular(make_report: Make) -> None:
    width = 0
    for line in to_markdown(make_report()).splitlines():
        columns = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not width or not columns or columns == width
        width = columns


def test_hostile_text_is_neither_markup_nor_a_cell(make_report: Make) -> None:
    evil = "![x](https://evil.example/p.png) <img src=x>\n| a | b |\n```\n# h"
    data = make_report(
        failures=[FailureCount(origin="tool", kind=evil, count=1, example=evil)],
        self_checks=[SelfCheck(name=evil, passed=False, detail=evil)],
        warnings=[evil],
        run_id=evil,
        command="a\n```\nb",
    )
    text = to_markdown(data)
    assert not re.search(r"(?<!\\)(\]\(|<img|`)", text.replace("    ```", ""))
    assert "\n```" not in text
    assert not re.search(r"^\s*\| a \|", text, re.MULTILINE)


def test_an_empty_run(make_report: Make) -> None:
    text = to_markdown(ReportData(run_id="r", status="running"))
    assert text.startswith("# r\n") and "No held-out evaluation" in text
    assert "## Evaluations" not in text and "## Failures" not in text
