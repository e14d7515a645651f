"""Other programs get the exact ids and the dialogue."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from askesis.errors import MissingExtra
from askesis.store import Group, Member, RunRecord, Store, export_jsonl, export_parquet, messages_of
from askesis.trace import Call, Fork, Message, StateScore, StopReason, Task, TraceBuilder, Verdict, VerdictStatus


def test_the_messages_along_each_branch(group: Callable[..., Group]) -> None:
    trace = group(1).members[1].trace
    ask = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What time is it?"}]
    function = {"name": "clock", "arguments": '{"zone": "UTC"}'}
    tool = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]}
    said = {"role": "tool", "content": "noon", "tool_call_id": "c1"}
    late = [{"role": "user", "content": "Hurry."}, {"role": "assistant", "content": "Late."}]
    full, forked, second_root = (messages_of(trace, leaf) for leaf in trace.leaves())
    assert full == [*ask, tool, said, {"role": "assistant", "content": "Noon."}]
    assert forked == [*ask, *late]  # the branch leaves the first call half-way, so its reply is not in it
    assert second_root == []


def test_every_branch_is_a_line_with_exact_ids(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with Store.open(full, read_only=True) as store:
        number = export_jsonl(store, "R", out)
        groups = list(store.groups("R"))
    rows = [json.loads(line) for line in out.read_bytes().decode("ascii").splitlines()]
    expected = [(g, m, i, b) for g in groups for m in g.members for i, b in enumerate(m.trace.branches())]
    assert number == len(rows) == len(expected) == 5 * 4
    for row, (group, member, index, branch) in zip(rows, expected, strict=True):
        assert (row["run_id"], row["group_id"], row["member_index"]) == ("R", group.group_id, member.member_index)
        assert (row["trace_id"], row["branch"]) == (group.trace_id(member), index)
        assert row["token_ids"] == branch.tokens.tolist()
        assert row["sampled"] == branch.sampled.tolist() and row["owned"] == branch.owned.tolist()
        assert np.array(row["logprobs"], np.float32).tobytes() == branch.logprobs.tobytes()
        assert row["messages"] == messages_of(member.trace, branch.leaf)
        assert [Message.from_dict(m).to_dict() for m in row["messages"]] == row["messages"]
        assert row["reward"] == member.verdict.reward and row["status"] == member.verdict.status
        assert row["stop"] == member.trace.stop
    assert rows[0]["rewards"] == {"correct": {"value": 1.0, "weight": 1.0}, "format": {"value": 0.5, "weight": 0.2}}
    assert rows[1]["reward"] is None and rows[1]["rewards"] == {}
    assert sorted(p.name for p in tmp_path.iterdir() if "out" in p.name) == ["out.jsonl"]


def test_one_purpose(full: Path, tmp_path: Path) -> None:
    with Store.open(full, read_only=True) as store:
        assert export_jsonl(store, "R", tmp_path / "e.jsonl", purpose="evaluation") == 4
        assert export_jsonl(store, "nobody", tmp_path / "n.jsonl") == 0
    assert (tmp_path / "n.jsonl").read_bytes() == b""


def test_parquet_holds_the_same(full: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    with Store.open(full, read_only=True) as store:
        assert export_parquet(store, "R", tmp_path / "o.parquet") == 20
        export_jsonl(store, "R", tmp_path / "o.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    table = parquet.read_table(tmp_path / "o.parquet").to_pylist()
    for row, line in zip(table, lines, strict=True):
        for name in ("messages", "rewards", "failure"):
            row[name] = None if row[name] is None else json.loads(row[name])
        assert row == line


def test_parquet_without_its_package(full: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what Python itself does for a module that must not be imported
    with Store.open(full, read_only=True) as store, pytest.raises(MissingExtra) as error:
        export_parquet(store, "R", tmp_path / "o.parquet")
    assert error.value.next_step == "pip install 'askesis[parquet]'"
    assert not (tmp_path / "o.parquet").exists()


def test_an_answer_from_a_state_has_its_own_score(tmp_path: Path) -> None:
    trace = TraceBuilder(
        [
            Call(key=0, context=[1, 2], sampled=[3], logprobs=[-0.5]),
            Call(key=1, context=[1, 2, 9], sampled=[4], logprobs=[-0.5], fork=Fork(state=0)),
        ]
    ).finish(StopReason.TERMINATED)
    verdict = Verdict(
        status=VerdictStatus.OK,
        evaluator="e",
        rewards={"r": (1.0, 1.0)},
        completed=True,
        states=(StateScore(state=0, after=None, value=0.25, answers=((1, 0.25),), truth=0.5),),
    )
    task = Task(key="k", environment="search", payload={})
    members = (Member(member_index=0, seed=0, trace=trace, verdict=verdict),)
    with Store.open(tmp_path / "s.db") as store:
        store.add_run(RunRecord(run_id="R", recipe_hash="h", recipe={}, seed=0, versions={}))
        store.append_group(Group(group_id="g", run_id="R", purpose="train", step=0, task=task, members=members))
        assert store.verify().ok
        (back,) = store.groups("R")
        assert back.members[0].verdict == verdict and back.members[0].trace.calls[1].fork == Fork(state=0)
        export_jsonl(store, "R", tmp_path / "o.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(r["mode"], r["state"], r["reward"], r["completed"]) for r in rows] == [
        (None, None, 1.0, True),
        ("answer", 0, 0.25, None),
    ]
