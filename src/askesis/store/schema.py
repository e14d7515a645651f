"""The tables. Portable SQL: both databases have the same columns, and order text by its bytes.

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
    "ready",
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


_TEXT = String().with_variant(String(collation="C"), "postgresql")


def _leaf() -> Column[int]:
    return Column("leaf", Integer, ForeignKey("log.leaf"), primary_key=True, autoincrement=False)


meta = Table(
    "meta",
    metadata,
    Column("name", _TEXT, primary_key=True),
    Column("value", _TEXT, nullable=False),
)

log = Table(
    "log",
    metadata,
    Column("leaf", Integer, primary_key=True, autoincrement=False),
    Column("kind", _TEXT, nullable=False),
    Column("record", _TEXT, nullable=False),
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
    Column("run_id", _TEXT, nullable=False, unique=True),
    Column("record", LargeBinary, nullable=False),
    Column("status", _TEXT, nullable=False),  # unlogged
    Column("created_at", Double, nullable=False),  # unlogged, seconds since the epoch
    Column("checksum", LargeBinary, nullable=False),
)

tasks = Table(
    "tasks",
    metadata,
    _leaf(),
    Column("task_hash", _TEXT, nullable=False, unique=True),
    Column("task_key", _TEXT, nullable=False),  # derived
    Column("environment", _TEXT, nullable=False),  # derived
    Column("record", LargeBinary, nullable=False),
)

groups = Table(
    "groups",
    metadata,
    _leaf(),
    Column("group_id", _TEXT, nullable=False, unique=True),
    Column("run_id", _TEXT, ForeignKey("runs.run_id"), nullable=False),
    Column("purpose", _TEXT, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("task_hash", _TEXT, ForeignKey("tasks.task_hash"), nullable=False),
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
    Column("encoding", _TEXT, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

traces = Table(
    "traces",
    metadata,
    _leaf(),
    Column("trace_id", _TEXT, nullable=False, unique=True),
    Column("group_id", _TEXT, ForeignKey("groups.group_id"), nullable=False),
    Column("member_index", BigInteger, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("policy_version", BigInteger, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("logprobs", LargeBinary, ForeignKey("blobs.hash"), nullable=False),
    Column("stop", _TEXT, nullable=False),  # derived, like the four below
    Column("failure", _TEXT),
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
    Column("trace_id", _TEXT, ForeignKey("traces.trace_id"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("status", _TEXT, nullable=False),  # derived, like the three below
    Column("evaluator", _TEXT, nullable=False),
    Column("reward", Double),
    Column("completed", SmallInteger),
    UniqueConstraint("trace_id", "sequence"),
)

consumptions = Table(
    "consumptions",
    metadata,
    _leaf(),
    Column("run_id", _TEXT, ForeignKey("runs.run_id"), nullable=False),
    Column("group_id", _TEXT, ForeignKey("groups.group_id"), nullable=False),
    Column("step", BigInteger, nullable=False),
    UniqueConstraint("run_id", "group_id"),
    Index(None, "run_id", "step"),
)

ready = Table(  # derived: complete groups that no step of their run has consumed
    "ready",
    metadata,
    Column("run_id", _TEXT, primary_key=True),
    Column("purpose", _TEXT, primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("leaf", Integer, ForeignKey("groups.leaf"), primary_key=True, autoincrement=False),
)

metrics = Table(
    "metrics",
    metadata,
    Column("run_id", _TEXT, ForeignKey("runs.run_id"), primary_key=True),
    Column("name", _TEXT, primary_key=True),
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
