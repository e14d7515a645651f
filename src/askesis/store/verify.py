"""Row by row: is everything in the store what was written?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, select
from sqlalchemy.exc import DBAPIError

from askesis.errors import StoreCorrupt, StoreError
from askesis.store import queue, schema
from askesis.store.canonical import altered, checksum, decoding, from_json, group_leaf, printable, task_leaf, task_of
from askesis.store.database import catalog_of
from askesis.store.listing import check_consumption_row, check_metric_row, check_run_row
from askesis.store.log import head_of, read_frontier, read_heads
from askesis.store.merkle import HASH_BYTES, Frontier
from askesis.store.reading import check_verdict_row, fetch_group, read_trace
from askesis.store.records import Finding, Head, Report

__all__ = ["verify"]

_NAMES: dict[str, Callable[[Row[Any]], str]] = {
    "run": lambda row: str(row.run_id),
    "task": lambda row: str(row.task_hash),
    "group": lambda row: str(row.group_id),
    "trace": lambda row: str(row.trace_id),
    "verdict": lambda row: f"{row.trace_id}#{row.sequence}",
    "consumption": lambda row: f"{row.run_id} <- {row.group_id}",
}
"""What the log calls a row of each kind."""


_NAME_COLUMNS = ("leaf", "run_id", "task_hash", "group_id", "trace_id", "sequence")


class _Problem(NamedTuple):
    leaf: int
    """Where the record stands in the log; -1 for what is not in it. Findings are sorted by this."""
    finding: Finding


def verify(connection: Connection, heads_path: Path | None) -> Report:
    """Check the file, the log, every row, and the heads kept outside (if given). Damage is reported, not raised."""
    problems: list[_Problem] = []
    heads: list[Head] = []
    tree = Frontier()
    if heads_path is not None:
        try:
            heads = read_heads(heads_path)
        except StoreCorrupt as error:
            problems.append(_Problem(-1, Finding(record=f"heads {error.where}", problem=error.what)))
        except FileNotFoundError as error:
            raise StoreError(
                "there is no heads file here", where=str(heads_path), next_step="check the path"
            ) from error
    checks: list[Callable[[], Iterator[_Problem]]] = [
        lambda: (
            _Problem(-1, Finding(record="database", problem=line))
            for line in catalog_of(connection).structure_problems(connection)
        ),
        lambda: _check_log(connection, tree, heads),
        lambda: _check_presence(connection),
        lambda: _check_simple(connection),
        lambda: _check_groups(connection),
        lambda: _check_blobs(connection),
        lambda: _check_queue(connection),
    ]
    for check in checks:
        try:
            with decoding("database"), connection.begin_nested():  # a check that fails must not end the transaction
                for problem in check():
                    problems.append(problem)
        except StoreCorrupt as error:  # this check can read no further; the others go on
            problems.append(_problem(-1, error))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            problems.append(_Problem(-1, Finding(record="database", problem=f"it cannot be read: {error.orig}")))
    findings = tuple(dict.fromkeys(p.finding for p in sorted(problems, key=lambda p: p.leaf)))
    head = head_of(tree)
    return Report(ok=not findings, size=head.size, root=head.root, findings=findings)


def _check_log(connection: Connection, tree: Frontier, heads: Sequence[Head]) -> Iterator[_Problem]:
    """Grow the tree over the log's rows; compare with the stored frontier and with the heads on the way."""
    expected: dict[int, set[str]] = {}
    for head in heads:
        expected.setdefault(head.size, set()).add(head.root)
    yield from _compare_head(tree, expected)
    with decoding("log"):
        query = select(schema.log.c.leaf, schema.log.c.hash).order_by(schema.log.c.leaf)
        for leaf, digest in connection.execute(query).yield_per(10_000):
            if leaf != tree.size or len(digest) != HASH_BYTES:
                yield _Problem(tree.size, Finding(record=f"log {tree.size}", problem="the leaf is missing or damaged"))
                return
            tree.push(digest)
            yield from _compare_head(tree, expected)
    stored = head_of(read_frontier(connection))
    if stored != head_of(tree):
        yield _Problem(
            tree.size,
            Finding(
                record="log", problem=f"its state says {stored.size} leaves, its rows give {tree.size}, or other hashes"
            ),
        )
    for size in sorted(s for s in expected if s > tree.size):
        problem = f"it was cut or rolled back: {tree.size} leaves are left of {size} that were published"
        yield _Problem(tree.size, Finding(record="log", problem=problem))


def _compare_head(tree: Frontier, expected: dict[int, set[str]]) -> Iterator[_Problem]:
    roots = expected.get(tree.size)
    if roots is not None and roots != {tree.root().hex()}:
        problem = f"its first {tree.size} leaves are not those of the head that was published"
        yield _Problem(max(tree.size - 1, 0), Finding(record=f"log {tree.size}", problem=problem))


def _check_presence(connection: Connection) -> Iterator[_Problem]:
    """Leaves without a row, rows without a leaf, rows in another's place."""
    log = schema.log
    for kind, table in schema.LOGGED.items():
        missing: Any = select(log.c.leaf, log.c.record).outerjoin(table, table.c.leaf == log.c.leaf)
        missing = missing.where((log.c.kind == kind) & table.c.leaf.is_(None))
        for row in connection.execute(missing).all():
            yield _Problem(row.leaf, Finding(record=f"{kind} {row.record}", problem="the record is missing"))
        names = [c for c in table.c if c.name in _NAME_COLUMNS]
        present: Any = select(*names, log.c.record.label("logged"), log.c.kind.label("logged_kind"))
        for row in connection.execute(present.outerjoin(log, log.c.leaf == table.c.leaf)).yield_per(1000):
            name = _NAMES[kind](row)
            if row.logged_kind != kind or row.logged != name:
                problem = f"the log has {row.logged_kind} {row.logged} in its place"
                if row.logged is None:
                    problem = "the record was never logged"
                yield _Problem(row.leaf, Finding(record=f"{kind} {name}", problem=problem))
    unknown: Any = select(log.c.leaf, log.c.kind, log.c.record).where(log.c.kind.not_in(list(schema.LOGGED)))
    for row in connection.execute(unknown).all():
        yield _Problem(row.leaf, Finding(record=f"log {row.leaf}", problem=f"unknown kind {row.kind!r}"))


def _with_hash(table: Table) -> Any:
    log = schema.log
    return select(table, log.c.hash.label("leaf_hash")).outerjoin(log, log.c.leaf == table.c.leaf)


def _check_simple(connection: Connection) -> Iterator[_Problem]:
    """Records that one row holds whole."""
    checks: tuple[tuple[Any, Callable[[Row[Any]], object]], ...] = (
        (_with_hash(schema.runs), check_run_row),
        (_with_hash(schema.tasks), _check_task_row),
        (_with_hash(schema.consumptions), check_consumption_row),
        (_with_hash(schema.verdicts), check_verdict_row),
        (select(schema.metrics), check_metric_row),
    )
    for query, check in checks:
        for row in connection.execute(query).yield_per(1000):
            yield from _try(getattr(row, "leaf", -1), partial(check, row))


def _try(leaf: int, check: Callable[[], object]) -> Iterator[_Problem]:
    try:
        with decoding(f"record {leaf}"):
            check()
    except StoreCorrupt as error:
        yield _problem(leaf, error)


def _problem(leaf: int, error: StoreCorrupt) -> _Problem:
    return _Problem(leaf, Finding(record=error.where or "database", problem=error.got or error.what))


def _check_task_row(row: Row[Any]) -> None:
    record = f"task {row.task_hash}"
    with decoding(record):
        task = task_of(from_json(row.record))
        if task.content_hash != row.task_hash or task_leaf(row.task_hash).hash != row.leaf_hash:
            raise altered(record, "its content does not match its leaf in the log")
        if (row.task_key, row.environment) != (printable(task.key), printable(task.environment)):
            raise altered(record, "its key or environment is not the record's")


def _check_group_row(row: Row[Any]) -> None:
    record = f"group {row.group_id}"
    with decoding(record):
        leaf = group_leaf(row.group_id, row.run_id, row.purpose, row.step, row.task_hash, row.num_members)
        if leaf.hash != row.leaf_hash:
            raise altered(record, "its content does not match its leaf in the log")
        if row.checksum != checksum(row.group_id, row.created_at):
            raise altered(record, "its time does not match its checksum")


def _check_groups(connection: Connection) -> Iterator[_Problem]:
    """Groups and, one group at a time, their traces with nodes and arrays."""
    for group in connection.execute(_with_hash(schema.groups).order_by(schema.groups.c.leaf)).all():
        yield from _try(group.leaf, partial(_check_group_row, group))
        try:
            with decoding(f"group {group.group_id}"):
                parts = fetch_group(connection, group.group_id)
        except StoreCorrupt as error:
            yield _problem(group.leaf, error)
            continue
        for trace in parts.traces:
            yield from _try(trace.leaf, partial(read_trace, group, trace, parts.nodes.get(trace.leaf, ())))


def _check_blobs(connection: Connection) -> Iterator[_Problem]:
    """Arrays that nothing points to were not written by us."""
    used = (select(schema.traces.c.logprobs), select(schema.nodes.c.tokens))
    with decoding("table blobs"):
        for (name,) in connection.execute(select(schema.blobs.c.hash).except_(*used)).all():
            yield _Problem(-1, Finding(record=f"blob {name.hex()}", problem="no record uses it"))


def _check_queue(connection: Connection) -> Iterator[_Problem]:
    """Groups that would be consumed never, or twice."""
    with decoding("table ready"):
        for leaf, group_id, problem in queue.problems(connection):
            yield _Problem(leaf, Finding(record=f"group {group_id}", problem=problem))
