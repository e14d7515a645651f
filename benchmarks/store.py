"""The store: traces per second, and the time of a claim in a store of a million traces.

    python -m benchmarks.store                      # SQLite, and PostgreSQL if its programs are installed
    python -m benchmarks.store --traces 1000000     # the large store

Each rate is also shown over that of plain SQL inserts of the very same rows in the same run: what the store adds is
to encode, hash, compress and check. A large store is filled by SQL with rows of the same shape (its traces cannot be
read); the groups that are claimed are among them. Wall time counts what else the machine does, so there are rates per
CPU second, too.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from askesis.store import Group, Member, RunRecord, Store
from askesis.store.bulk import insert_rows
from askesis.store.schema import metadata
from askesis.trace import Call, Message, StopReason, Task, TraceBuilder, Verdict, VerdictStatus
from benchmarks.reporting import options
from benchmarks.side_by_side import table

MEMBERS = 16
RUN = RunRecord(run_id="R", recipe_hash="x", recipe={}, seed=1, versions={})
OK = Verdict(status=VerdictStatus.OK, evaluator="exact/1", rewards={"correct": (1.0, 1.0)}, completed=True)


def make_group(number: int) -> Group:
    """16 answers of 30 tokens to one prompt of 30."""
    rng = np.random.default_rng(number)
    prompt = [int(x) for x in rng.integers(0, 5000, 30)]
    members = []
    for index in range(MEMBERS):
        call = Call(
            key=0,
            context=prompt,
            sampled=rng.integers(0, 5000, 30),
            logprobs=-rng.random(30),
            messages=(Message(role="user", content=f"How much is {number} + 2?"),),
            reply=Message(role="assistant", content=f"It is {number + index}."),
            sampling={"temperature": 1.0},
        )
        trace = TraceBuilder([call]).finish(StopReason.TERMINATED)
        members.append(Member(member_index=index, seed=index, trace=trace, verdict=OK, duration_s=0.5))
    task = Task(key=f"sum/{number}", environment="sums", payload={"n": number})
    name = f"R/train/{number:08d}/000"
    return Group(group_id=name, run_id="R", purpose="train", step=number // 8, task=task, members=tuple(members))


def timed(store: Store, work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds, those of the server's process at the other end of the connection too."""
    backend = store._read(_backend)
    wall, cpu = time.perf_counter(), cpu_s(backend)
    work()
    return time.perf_counter() - wall, cpu_s(backend) - cpu


def _backend(connection: Any) -> Path | None:
    if connection.dialect.name != "postgresql":
        return None
    return Path(f"/proc/{connection.connection.driver_connection.info.backend_pid}/schedstat")


def cpu_s(backend: Path | None) -> float:
    """CPU seconds so far; without /proc the server's are not counted."""
    own = time.process_time()
    return own + int(backend.read_text().split()[0]) / 1e9 if backend is not None and backend.exists() else own


Rows = list[tuple[Any, list[tuple[Any, ...]]]]


def rows_of(parts: Sequence[Sequence[Group]]) -> list[Rows]:
    """What appending each part writes, by table, as the store itself wrote it."""
    tables = [t for t in metadata.sorted_tables if t.name not in ("meta", "log_state")]
    seen: dict[str, int] = {}
    batches = []
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "rows.db") as store:
        store.add_run(RUN)
        for part in parts:
            store.append_groups(part)
            new: Rows = []
            for t in tables:  # in the order of insertion
                query = (
                    f"SELECT {', '.join(t.c.keys())} FROM {t.name} ORDER BY rowid LIMIT -1 OFFSET {seen.get(t.name, 0)}"
                )
                rows = store._read(lambda c, query=query: [tuple(r) for r in c.exec_driver_sql(query)])
                seen[t.name] = seen.get(t.name, 0) + len(rows)
                new.append((t, rows))
            batches.append(new)
    return batches


def write_plainly(store: Store, batches: Sequence[Rows]) -> None:
    """The same rows in as many transactions, with nothing but SQL."""

    def insert(connection: Any, batch: Rows) -> None:
        for target, rows in batch:
            insert_rows(connection, target, rows)

    for batch in batches:
        store._write(partial(insert, batch=batch))


def append(store: Store, parts: Sequence[Sequence[Group]]) -> None:
    """One transaction per part."""
    for part in parts:
        store.append_groups(part)


def ingest(make: Callable[[str], str | Path], groups: Sequence[Group], batch: int, rounds: int) -> dict[str, Any]:
    """Ours and plain inserts by turns; medians."""
    parts = [groups[i : i + batch] for i in range(0, len(groups), batch)]
    batches, ours, plain = rows_of(parts), [], []
    for number in range(rounds):
        with Store.open(make(f"ours{number}")) as store:
            store.add_run(RUN)
            ours.append(timed(store, partial(append, store, parts)))
        with Store.open(make(f"plain{number}")) as store:
            store.num_ready("R")  # connected, as ours was
            plain.append(timed(store, partial(write_plainly, store, batches)))
    return summary(len(groups), ours, plain)


def summary(num_groups: int, ours: list[tuple[float, float]], plain: list[tuple[float, float]]) -> dict[str, Any]:
    """Traces per second of wall and of CPU time, and ours over plain."""
    traces = num_groups * MEMBERS
    wall, cpu = (float(np.median([pair[i] for pair in ours])) for i in (0, 1))
    plain_wall, plain_cpu = (float(np.median([pair[i] for pair in plain])) for i in (0, 1))
    return {
        "traces_per_s": traces / wall,
        "traces_per_cpu_s": traces / cpu,
        "plain_per_s": traces / plain_wall,
        "over_plain": plain_wall / wall,
        "over_plain_cpu": plain_cpu / cpu,
    }


def _write_part(url: str, first: int, number: int, batch: int, start: Any, results: Any) -> None:
    groups = [make_group(first + i) for i in range(number)]
    with Store.open(url, busy_timeout_s=300) as store:
        store.num_ready("R")
        start.wait()
        parts = [groups[i : i + batch] for i in range(0, number, batch)]
        taken = timed(store, partial(append, store, parts))
    results.put((time.time(), taken[1]))


def many_writers(url: str, writers: int, groups: int, batch: int, first: int = 0) -> dict[str, Any]:
    """``writers`` processes append ``groups`` groups in all."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(writers + 1), context.Queue()
    share = groups // writers
    processes = [
        context.Process(target=_write_part, args=(url, first + 100_000 * n, share, batch, start, results))
        for n in range(writers)
    ]
    for process in processes:
        process.start()
    start.wait()
    began = time.time()
    ends = [results.get(timeout=900) for _ in processes]
    for process in processes:
        process.join()
    traces = share * writers * MEMBERS
    return {
        "traces_per_s": traces / (max(end for end, _ in ends) - began),
        "traces_per_cpu_s": traces / sum(cpu for _, cpu in ends),
    }


FILL_SQLITE = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {groups}),
m(j) AS (SELECT 0 UNION ALL SELECT j + 1 FROM m WHERE j + 1 < {members})
"""
FILL_POSTGRES = """
WITH n AS (SELECT generate_series(0, {groups} - 1) AS i), m AS (SELECT generate_series(0, {members} - 1) AS j)
"""
# A group takes 34 leaves: task, group, then trace and verdict of each member.
FILL = {
    "log": "SELECT {base} + i * 34 + k.k, 'filled', 'filled ' || i, {hash32} FROM n, {leaves} k",
    "tasks": "SELECT {base} + i * 34, 'task' || i, 'sum', 'sums', {record} FROM n",
    "groups": "SELECT {base} + i * 34 + 1, 'R/train/' || i, 'R', 'train', i / 8, 'task' || i, 16, 0.0, {check} FROM n",
    "blobs": "SELECT {blob_i}, 120, 'raw', {data} FROM n",
    "traces": "SELECT {base} + i * 34 + 2 + 2 * j, 'R/train/' || i || '/' || j, 'R/train/' || i, j, j, 0, {header}, "
    "{blob_i}, 'terminated', NULL, 1, 60, 30, 0.5, {check} FROM n, m",
    "nodes": "SELECT {base} + i * 34 + 2 + 2 * j, k.k, NULL, 0, 0, 30, {blob_i} FROM n, m, {two} k",
    "verdicts": "SELECT {base} + i * 34 + 3 + 2 * j, 'R/train/' || i || '/' || j, 0, {record}, 'ok', 'exact/1', 1.0, 1 "
    "FROM n, m",
    "ready": "SELECT 'R', 'train', i / 8, {base} + i * 34 + 1 FROM n",
}


def fill(run_sql: Callable[[str], object], is_postgres: bool, groups: int, base: int) -> None:
    """Rows of the shape that :func:`make_group` gives, by SQL."""
    values = {"base": base, "groups": groups, "members": MEMBERS}
    if is_postgres:
        lists = {"leaves": "generate_series(0, 33)", "two": "generate_series(0, 1)"}
        lists = {k: f"(SELECT {v} AS k)" for k, v in lists.items()}
        blob = {"hash32": "sha256(int4send(i * 34 + k.k))", "blob_i": "sha256(int4send(-i - 1))"}
        sizes = {"record": 160, "header": 300, "data": 120, "check": 8}
        blob |= {k: f"decode(repeat('ab', {v}), 'hex')" for k, v in sizes.items()}
    else:
        lists = {
            "leaves": "(WITH RECURSIVE q(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM q WHERE k < 33) SELECT k FROM q)",
            "two": "(SELECT 0 AS k UNION ALL SELECT 1)",
        }
        blob = {"hash32": "randomblob(32)", "blob_i": "CAST(printf('%032d', i) AS BLOB)"}
        sizes = {"record": 160, "header": 300, "data": 120, "check": 8}
        blob |= {k: f"zeroblob({v})" for k, v in sizes.items()}
    head = (FILL_POSTGRES if is_postgres else FILL_SQLITE).format(**values)
    for name, body in FILL.items():
        select = body.format(**values, **lists, **blob)
        run_sql(f"INSERT INTO {name} {head} {select}")
    size = base + 34 * groups
    peaks = (
        f"decode(repeat('cd', {32 * size.bit_count()}), 'hex')" if is_postgres else f"zeroblob({32 * size.bit_count()})"
    )
    run_sql(f"UPDATE log_state SET size = {size}, frontier = {peaks}")
    if is_postgres:
        run_sql("ANALYZE")  # SQLite would keep what it finds in a table of its own, which no store has


def claims(target: str | Path, rounds: int, count: int = 8) -> dict[str, Any]:
    """Milliseconds of claiming ``count`` groups; and of SQL that reads as many and writes one row, by turns."""
    taken, plain = [], []
    with Store.open(target) as store:
        for step in range(10**6, 10**6 + rounds):
            taken.append(timed(store, partial(store.claim, "R", step=step, count=count)))
            plain.append(timed(store, partial(store._write, _plain_claim)))
        assert len(set(store.consumed("R"))) == rounds * count
    figures: dict[str, Any] = {"claims": rounds}
    for name, times in (("", taken), ("plain_", plain)):
        for place, clock in enumerate(("wall", "cpu")):
            for q in (50, 99):
                figures[f"{name}{clock}_p{q}_ms"] = 1000 * float(np.percentile([t[place] for t in times], q))
    return figures


def _plain_claim(connection: Any) -> None:
    connection.exec_driver_sql("SELECT leaf FROM ready ORDER BY run_id, purpose, step, leaf LIMIT 8").all()
    connection.exec_driver_sql("UPDATE log_state SET size = size WHERE id = 1")


def on_sqlite(args: Any, folder: Path) -> dict[str, Any]:
    """Everything in a file."""
    groups = [make_group(i) for i in range(args.groups)]
    record = {"ingest": ingest(lambda name: folder / f"{name}.db", groups, args.batch, args.rounds)}
    if args.traces:
        big = folder / "big.db"
        with Store.open(big) as store:
            store.add_run(RUN)
        raw = sqlite3.connect(big, isolation_level=None)
        raw.execute("PRAGMA synchronous=OFF")
        fill(raw.execute, False, args.traces // MEMBERS, 1)
        raw.close()
        record["claim"] = claims(big, args.claims)
    return record


def on_postgres(args: Any) -> dict[str, Any]:
    """Everything on a server of our own, with durable commits."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from cluster.postgres import running_server

    with running_server({"fsync": "on", "shared_buffers": "'256MB'", "max_wal_size": "'4GB'"}) as server:

        def make(name: str) -> str:
            server.sql(f"CREATE DATABASE {name}")
            Store.open(server.url(name)).close()
            return server.url(name)

        groups = [make_group(i) for i in range(args.groups)]
        record: dict[str, Any] = {"ingest": ingest(make, groups, args.batch, args.rounds)}
        url = make("many")
        with Store.open(url) as store:
            store.add_run(RUN)
        record["four_writers"] = many_writers(url, 4, args.groups, args.batch)
        record["four_writers"]["over_plain"] = record["four_writers"]["traces_per_s"] / record["ingest"]["plain_per_s"]
        if args.traces:
            url = make("big")
            with Store.open(url) as store:
                store.add_run(RUN)
            off = "SET session_replication_role = replica; SET synchronous_commit = off; "
            fill(lambda sql: server.sql(off + sql, "big"), True, args.traces // MEMBERS, 1)
            record["claim"] = claims(url, args.claims)
        return record


def main() -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=3)
    parser.add_argument("--groups", type=int, default=256, help="of 16 traces, appended")
    parser.add_argument("--batch", type=int, default=32, help="groups in one transaction")
    parser.add_argument("--traces", type=int, default=0, help="in the large store; 0: none is made")
    parser.add_argument("--claims", type=int, default=500)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    args = parser.parse_args()
    record: dict[str, Any] = {"benchmark": "store"}
    with tempfile.TemporaryDirectory() as folder:
        if args.only != "postgresql":
            record["sqlite"] = on_sqlite(args, Path(folder))
    if args.only != "sqlite":
        record["postgresql"] = on_postgres(args)
    rows = [
        (side, part, name, f"{value:.2f}" if value < 100 else f"{value:.0f}")
        for side in ("sqlite", "postgresql")
        for part, values in record.get(side, {}).items()
        for name, value in values.items()
    ]
    print(table(["database", "part", "figure", "value"], rows))
    if args.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
