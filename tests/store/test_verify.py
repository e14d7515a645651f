"""Whatever is changed behind the store's back is found, and named."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from askesis.errors import StoreError
from askesis.store import Finding, Group, Report, Store
from askesis.store.merkle import Frontier

G = "R/train/000001/000"
AT_G = f"group_id = '{G}'"
LEAF = f"(SELECT leaf FROM traces WHERE trace_id = '{G}/0')"
VERDICT = (
    """UPDATE verdicts SET record = CAST(replace(CAST(record AS TEXT), '"correct":[1.0', '"correct":[9.0') AS BLOB)"""
)
EDITS = {
    # a changed value
    f"{VERDICT}, reward = 9.1 WHERE trace_id = '{G}/0'": f"verdict {G}/0#0",
    f"UPDATE verdicts SET reward = 9.0 WHERE trace_id = '{G}/0'": f"verdict {G}/0#0",
    f"UPDATE verdicts SET completed = 0 WHERE trace_id = '{G}/0'": f"verdict {G}/0#0",
    f"UPDATE verdicts SET sequence = 1 WHERE trace_id = '{G}/0'": f"verdict {G}/0#1",
    f"UPDATE traces SET seed = seed + 1 WHERE trace_id = '{G}/0'": f"trace {G}/0",
    f"UPDATE traces SET policy_version = 8 WHERE trace_id = '{G}/0'": f"trace {G}/0",
    f"UPDATE traces SET duration_s = 1e3 WHERE trace_id = '{G}/0'": f"trace {G}/0",
    f"UPDATE traces SET num_tokens = 1 WHERE trace_id = '{G}/0'": f"trace {G}/0",
    f"UPDATE traces SET trace_id = '{G}/0x' WHERE trace_id = '{G}/0'": f"trace {G}/0x",
    f"UPDATE nodes SET tokens = (SELECT hash FROM blobs WHERE size_bytes = 80 AND hash <> tokens LIMIT 1) "
    f"WHERE trace_leaf = {LEAF} AND node_index = 0": f"trace {G}/0",
    f"UPDATE nodes SET call_offset = 1 WHERE trace_leaf = {LEAF} AND node_index = 1": f"trace {G}/0",
    f"UPDATE traces SET logprobs = (SELECT logprobs FROM traces WHERE trace_id = 'R/train/000002/000/0') "
    f"WHERE trace_id = '{G}/0'": f"trace {G}/0",
    f"UPDATE groups SET purpose = 'evaluation' WHERE {AT_G}": f"group {G}",
    f"UPDATE groups SET created_at = 0 WHERE {AT_G}": f"group {G}",
    f"UPDATE groups SET task_hash = (SELECT task_hash FROM tasks WHERE task_key = 'sum/2') WHERE {AT_G}": f"group {G}",
    "UPDATE runs SET record = x'7b7d'": "run R",
    "UPDATE runs SET status = 'finished'": "run R",
    f"UPDATE consumptions SET step = 2 WHERE {AT_G}": f"consumption R <- {G}",
    "UPDATE metrics SET value = 9 WHERE step = 2 AND name = 'loss'": "metric R loss 2",
    "UPDATE log SET hash = x'00' WHERE leaf = 5": "log 5",
    "UPDATE log SET record = 'x' WHERE leaf = 0": "run R",
    "UPDATE log SET kind = 'x' WHERE leaf = 3": "log 3",
    "UPDATE log_state SET size = 3": "log",
    "UPDATE log_state SET frontier = x'00'": "log",
    # a row more or less
    f"DELETE FROM verdicts WHERE trace_id = '{G}/0'": f"verdict {G}/0#0",
    f"DELETE FROM traces WHERE trace_id = '{G}/2'": f"trace {G}/2",
    f"DELETE FROM groups WHERE {AT_G}": f"group {G}",
    f"DELETE FROM consumptions WHERE {AT_G}": f"consumption R <- {G}",
    f"DELETE FROM nodes WHERE trace_leaf = {LEAF} AND node_index = 1": f"trace {G}/0",
    "DELETE FROM runs": "run R",
    "DELETE FROM log WHERE leaf = 4": "log 4",
    "DELETE FROM log_state": "log",
    f"INSERT INTO verdicts SELECT 900, trace_id, 1, record, status, evaluator, 7.0, 1 FROM verdicts "
    f"WHERE trace_id = '{G}/0'": f"verdict {G}/0#1",
    "INSERT INTO consumptions VALUES (900, 'R', 'R/train/000002/000', 5)": "consumption R <- R/train/000002/000",
    f"INSERT INTO nodes SELECT trace_leaf, 2, 1, NULL, 0, 20, tokens FROM nodes "
    f"WHERE trace_leaf = {LEAF} AND node_index = 0": f"trace {G}/0",
    "INSERT INTO blobs VALUES (x'0102', 1, 'raw', x'00')": "blob 0102",
    # rows in each other's place
    f"UPDATE traces SET leaf = CASE leaf WHEN {LEAF} THEN -1 ELSE leaf END": f"trace {G}/0",
    f"UPDATE verdicts SET leaf = 901 WHERE trace_id = '{G}/0'": f"verdict {G}/0#0",
}


def edit(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        assert connection.execute(statement).rowcount != 0, statement
    connection.commit()
    connection.close()


def check(path: Path, *, heads: bool = True) -> Report:
    with Store.open(path, read_only=True) as store:
        return store.verify(heads=path.with_suffix(".heads") if heads else None)


def test_an_honest_store_is_clean(full: Path) -> None:
    report = check(full)
    (line,) = full.with_suffix(".heads").read_text().splitlines()
    assert report == Report(ok=True, size=json.loads(line)["size"], root=json.loads(line)["root"], findings=())


@pytest.mark.parametrize(("sql", "record"), EDITS.items(), ids=[f"{i}" for i in range(len(EDITS))])
def test_an_edit_is_found_by_name(full: Path, sql: str, record: str) -> None:
    edit(full, sql)
    report = check(full, heads=False)
    assert not report.ok
    assert record in {finding.record for finding in report.findings}
    assert all(finding.problem for finding in report.findings)


def test_swapped_rows_are_found(full: Path) -> None:
    a, b = f"{G}/0", "R/train/000002/000/0"
    edit(
        full,
        f"UPDATE verdicts SET trace_id = 'x' WHERE trace_id = '{a}'",
        f"UPDATE verdicts SET trace_id = '{a}' WHERE trace_id = '{b}'",
        f"UPDATE verdicts SET trace_id = '{b}' WHERE trace_id = 'x'",
    )
    records = {f.record for f in check(full, heads=False).findings}
    assert {f"verdict {a}#0", f"verdict {b}#0"} <= records


def tail_cut(path: Path, size: int) -> None:
    """Drop everything after ``size`` leaves, and make the log look as if it had never been there."""
    connection = sqlite3.connect(path)
    leaves = [h for (h,) in connection.execute("SELECT hash FROM log WHERE leaf < ? ORDER BY leaf", (size,))]
    frontier = Frontier()
    for leaf in leaves:
        frontier.push(leaf)
    for table in ("consumptions", "verdicts", "traces", "groups", "tasks", "log"):
        connection.execute(f"DELETE FROM {table} WHERE leaf >= {size}")
    connection.execute("DELETE FROM nodes WHERE trace_leaf NOT IN (SELECT leaf FROM traces)")
    connection.execute(
        "DELETE FROM blobs WHERE hash NOT IN (SELECT tokens FROM nodes UNION SELECT logprobs FROM traces)"
    )
    connection.execute("UPDATE log_state SET size = ?, frontier = ?", (size, frontier.to_bytes()))
    connection.commit()
    connection.close()


def test_a_cut_tail_is_found_with_heads_and_only_then(full: Path) -> None:
    size = check(full).size
    tail_cut(full, 1 + 3 * 8)
    assert check(full, heads=False).ok
    report = check(full)
    problem = f"it was cut or rolled back: 25 leaves are left of {size} that were published"
    assert report.findings == (Finding(record="log", problem=problem),)


def test_an_older_copy_is_found_with_heads_and_only_then(
    store: Store, group: Callable[..., Group], tmp_path: Path
) -> None:
    heads = tmp_path / "heads"
    store.append_group(group(1))
    store.write_head(heads)
    store.close()
    shutil.copy(Path(store.where), tmp_path / "old.db")
    with Store.open(Path(store.where)) as newer:
        newer.append_group(group(2))
        newer.write_head(heads)
    with Store.open(tmp_path / "old.db", read_only=True) as old:
        assert old.verify().ok
        (finding,) = old.verify(heads=heads).findings
        assert finding.record == "log" and "rolled back: 9 leaves are left of 17" in finding.problem


def test_a_rewritten_log_is_found_with_heads_and_only_then(full: Path, tmp_path: Path) -> None:
    """The attacker changes a reward and computes every hash anew."""
    size = check(full).size
    other = tmp_path / "other.db"
    with Store.open(full, read_only=True) as source, Store.open(other) as forged:
        for entry in source.runs():
            forged.add_run(entry.record)
        for group in source.groups("R"):
            forged.append_group(group)  # the latest verdict has become the first
        for name, step in source.consumed("R").items():
            forged.consume("R", [name], step=step)
        while forged.head().size < size + 2:
            forged.append_group(replace(group, group_id="more"))
    with Store.open(other, read_only=True) as forged:
        assert forged.verify().ok
        report = forged.verify(heads=full.with_suffix(".heads"))
    assert [f.record for f in report.findings] == [f"log {size}"]
    assert "not those of the head that was published" in report.findings[0].problem


def test_findings_come_in_the_order_of_the_log(full: Path) -> None:
    edit(
        full,
        "UPDATE verdicts SET reward = 5 WHERE trace_id LIKE 'R/train/000003%/0'",
        "UPDATE verdicts SET reward = 5 WHERE trace_id LIKE 'R/train/000000%/0'",
        "UPDATE traces SET seed = 5 WHERE trace_id LIKE 'R/train/000002%/1'",
    )
    assert [f.record for f in check(full).findings] == [
        "verdict R/train/000000/000/0#0",
        "trace R/train/000002/000/1",
        "verdict R/train/000003/000/0#0",
    ]


def test_the_heads_file_itself(full: Path) -> None:
    heads = full.with_suffix(".heads")
    with heads.open("a") as file:
        file.write("scribble\n")
    (finding,) = check(full).findings
    assert finding.record == f"heads {heads}:2"
    heads.write_text(json.dumps({"size": 0, "root": "00" * 32}) + "\n")
    assert [f.record for f in check(full).findings] == ["log 0"]
    heads.unlink()
    with pytest.raises(StoreError, match="no heads file"):
        check(full)
