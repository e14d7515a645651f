"""What is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from askesis.claims.judging import ClaimResult, judge
from askesis.claims.records import closing_line, store_result, to_record
from askesis.store import Store


@pytest.fixture
def result(make_study: Any, make_run: Any) -> ClaimResult:
    right = {"ours": [[4, 3], [4, 4], [3, 3]], "nsr": [[1, 1], [2, 1], [2, 2]], "psr": [[0, 1]] * 3}
    made = [make_run(arm, seed, tasks) for arm, seeds in right.items() for seed, tasks in enumerate(seeds)]
    return judge(make_study(), "laptop", 3, made, wall_s=12.34)


def test_the_closing_line_has_what_is_promised(result: ClaimResult) -> None:
    line = json.loads(json.dumps(closing_line(result)))
    promised = ["claim", "holds", "scale", "seeds", "method", "baselines", "effect", "ci", "wall_s"]
    assert list(line) == promised
    assert (line["claim"], line["holds"], line["scale"], line["seeds"]) == ("tiny", True, "laptop", 3)
    assert line["method"]["name"] == "ours" and line["method"]["settings"]["easy"]["pass@1"][0] == 0.875
    assert set(line["baselines"]) == {"nsr", "psr"} and line["baselines"]["psr"]["role"] == "baseline"
    assert line["effect"] == 0.5 and line["ci"][0] <= 0.5 <= line["ci"][1] and line["wall_s"] == 12.3


def test_the_record_survives_json_and_has_every_cell(result: ClaimResult) -> None:
    record = to_record(result, {"askesis": "0"})
    assert json.loads(json.dumps(record)) == record
    assert [(a["setting"], a["arm"], a["role"]) for a in record["arms"]] == [
        ("easy", "ours", "method"),
        ("easy", "nsr", "baseline"),
        ("easy", "psr", "baseline"),
    ]
    assert record["parts"][0]["rival"] == "nsr" and record["parts"][0]["effect"]["per_seed"] == [0.625, 0.625, 0.25]
    assert record["arms"][0]["curve"]["mean"] == [0.5, None, 0.6] and record["versions"] == {"askesis": "0"}


def test_the_store_keeps_every_seed_and_the_verdict(result: ClaimResult, tmp_path: Path) -> None:
    name = store_result(result, tmp_path / "store.db", {"askesis": "0"})
    assert store_result(result, tmp_path / "store.db", {"askesis": "0"}) == name  # again changes nothing
    with Store.open(tmp_path / "store.db", read_only=True) as store:
        (run,) = store.runs()
        metrics = store.metrics(name)
        assert store.verify().ok
    assert run.status == "finished" and run.record.recipe["method"] == "ours"
    assert metrics["easy/ours/pass@1"] == [(0, 0.875), (1, 1.0), (2, 0.75)]
    assert metrics["effect"] == [(0, 0.5)] and metrics["holds"] == [(0, 1.0)]
