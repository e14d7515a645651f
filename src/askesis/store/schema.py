"""The tables. Portable SQL: nothing here is peculiar to SQLite.

The primary key of every logged record is its place in the Merkle log (``leaf``). Columns marked *derived* repeat what a
record says, for queries. *Unlogged* columns (times, status, metrics) are in no leaf, because they differ between a
resumed and an unbroken run; they carry a checksum instead.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
)

__all__ = [
    "LOGGED",
    "blobs",
    "consumptions",
    "groups",
    "log",
    "log_state",
    "meta",
    "metadata",
    "metrics",
    "nodes",
    "runs",
    "tasks",
    "traces",
    "verdicts",
]

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _leaf() -> Column[int]:
    return Column("leaf", Integer, ForeignKey("log.leaf"), primary_key=True, autoincrement=False)


meta = Table(
    "meta",
    metadata,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    Column("kind", String, nullable=False),
    Column("record", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

log_state = Table(
    "log_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", Integer, nullable=False),
    Column("frontier", LargeBinary, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    _leaf(),
    Column("run_id", String, nullable=False, unique=True),
    Column("record", LargeBinary, nullable=False),
    Column("status", String, nullable=False),  # unlogged
    Column("created_at", Double, nullable=False),  # unlogged, seconds since the epoch
    Column("checksum", LargeBinary, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    _leaf(),
    Column("task_hash", String, nullable=False, unique=True),
    Column("task_key", String, nullable=False),  # derived
    Column("environment", String, nullable=False),  # derived
    Column("record", LargeBinary, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    _leaf(),
    Column("group_id", String, nullable=False, unique=True),
    Column("run_id", String, ForeignKey("runs.run_id"), nullable=False),
    Column("purpose", String, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("task_hash", String, ForeignKey("tasks.task_hash"), nullable=False),
    Column("num_members", Integer, nullable=False),
    Column("created_at", Double, nullable=False),  # unlogged, seconds since the epoch
    Column("checksum", LargeBinary, nullable=False),
    Index(None, "run_id", "purpose", "step"),
)

blobs = Table(
    "blobs",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("size_bytes", Integer, nullable=False),
    Column("encoding", String, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

traces = Table(
    "traces",
    metadata,
    _leaf(),
    Column("trace_id", String, nullable=False, unique=True),
    Column("group_id", String, ForeignKey("groups.group_id"), nullable=False),
    Column("member_index", BigInteger, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("logprobs", LargeBinary, ForeignKey("blobs.hash"), nullable=False),
    Column("stop", String, nullable=False),  # derived, like the four below
    Column("failure", String),
    Column("num_calls", Integer, nullable=False),
    Column("num_tokens", Integer, nullable=False),
    Column("num_sampled", Integer, nullable=False),
    Column("duration_s", Double),  # unlogged
    Column("checksum", LargeBinary, nullable=False),
    UniqueConstraint("group_id", "member_index"),
)

nodes = Table(
    "nodes",
    metadata,
    Column("trace_leaf", Integer, ForeignKey("traces.leaf"), primary_key=True, autoincrement=False),
    Column("node_index", Integer, primary_key=True, autoincrement=False),
    Column("parent", Integer),
    Column("call_key", BigInteger),
    Column("call_offset", Integer, nullable=False),
    Column("num_tokens", Integer, nullable=False),
    Column("tokens", LargeBinary, ForeignKey("blobs.hash"), nullable=False),
)

verdicts = Table(
    "verdicts",
    metadata,
    _leaf(),
    Column("trace_id", String, ForeignKey("traces.trace_id"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("status", String, nullable=False),  # derived, like the three below
    Column("evaluator", String, nullable=False),
    Column("reward", Double),
    Column("completed", SmallInteger),
    UniqueConstraint("trace_id", "sequence"),
)

consumptions = Table(
    "consumptions",
    metadata,
    _leaf(),
    Column("run_id", String, ForeignKey("runs.run_id"), nullable=False),
    Column("group_id", String, ForeignKey("groups.group_id"), nullable=False),
    Column("step", BigInteger, nullable=False),
    UniqueConstraint("run_id", "group_id"),
)

metrics = Table(
    "metrics",
    metadata,
    Column("run_id", String, ForeignKey("runs.run_id"), primary_key=True),
    Column("name", String, primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("value", Double),
    Column("checksum", LargeBinary, nullable=False),
)

LOGGED = {
    "run": runs,
    "task": tasks,
    "group": groups,
    "trace": traces,
    "verdict": verdicts,
    "consumption": consumptions,
}
"""Which table holds the records of a kind of leaf."""
