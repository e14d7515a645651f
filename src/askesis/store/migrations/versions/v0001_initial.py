"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["upgrade"]

revision = "0001"
down_revision: str | None = None

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")  # ordered by bytes, as in SQLite


def upgrade() -> None:
    """Create all tables."""
    _log()
    _records()
    _arrays()
    _events()


def _leaf() -> sa.Column[int]:
    return sa.Column("leaf", sa.Integer, sa.ForeignKey("log.leaf"), primary_key=True, autoincrement=False)


def _log() -> None:
    op.create_table(
        "meta",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("value", _TEXT, nullable=False),
    )
    op.create_table(
        "log",
        sa.Column("leaf", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", _TEXT, nullable=False),
        sa.Column("record", _TEXT, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "log_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("frontier", sa.LargeBinary, nullable=False),
    )


def _records() -> None:
    op.create_table(
        "runs",
        _leaf(),
        sa.Column("run_id", _TEXT, nullable=False, unique=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "tasks",
        _leaf(),
        sa.Column("task_hash", _TEXT, nullable=False, unique=True),
        sa.Column("task_key", _TEXT, nullable=False),
        sa.Column("environment", _TEXT, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "groups",
        _leaf(),
        sa.Column("group_id", _TEXT, nullable=False, unique=True),
        sa.Column("run_id", _TEXT, sa.ForeignKey("runs.run_id"), nullable=False),
        sa.Column("purpose", _TEXT, nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("task_hash", _TEXT, sa.ForeignKey("tasks.task_hash"), nullable=False),
        sa.Column("num_members", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_groups_run_id_purpose_step", "groups", ["run_id", "purpose", "step"])


def _arrays() -> None:
    op.create_table(
        "blobs",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("encoding", _TEXT, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "traces",
        _leaf(),
        sa.Column("trace_id", _TEXT, nullable=False, unique=True),
        sa.Column("group_id", _TEXT, sa.ForeignKey("groups.group_id"), nullable=False),
        sa.Column("member_index", sa.BigInteger, nullable=False),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("policy_version", sa.BigInteger, nullable=False),
        sa.Column("header", sa.LargeBinary, nullable=False),
        sa.Column("logprobs", sa.LargeBinary, sa.ForeignKey("blobs.hash"), nullable=False),
        sa.Column("stop", _TEXT, nullable=False),
        sa.Column("failure", _TEXT),
        sa.Column("num_calls", sa.Integer, nullable=False),
        sa.Column("num_tokens", sa.Integer, nullable=False),
        sa.Column("num_sampled", sa.Integer, nullable=False),
        sa.Column("duration_s", sa.Double),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("group_id", "member_index"),
    )
    op.create_table(
        "nodes",
        sa.Column("trace_leaf", sa.Integer, sa.ForeignKey("traces.leaf"), primary_key=True, autoincrement=False),
        sa.Column("node_index", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("parent", sa.Integer),
        sa.Column("call_key", sa.BigInteger),
        sa.Column("call_offset", sa.Integer, nullable=False),
        sa.Column("num_tokens", sa.Integer, nullable=False),
        sa.Column("tokens", sa.LargeBinary, sa.ForeignKey("blobs.hash"), nullable=False),
    )


def _events() -> None:
    op.create_table(
        "verdicts",
        _leaf(),
        sa.Column("trace_id", _TEXT, sa.ForeignKey("traces.trace_id"), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("evaluator", _TEXT, nullable=False),
        sa.Column("reward", sa.Double),
        sa.Column("completed", sa.SmallInteger),
        sa.UniqueConstraint("trace_id", "sequence"),
    )
    op.create_table(
        "consumptions",
        _leaf(),
        sa.Column("run_id", _TEXT, sa.ForeignKey("runs.run_id"), nullable=False),
        sa.Column("group_id", _TEXT, sa.ForeignKey("groups.group_id"), nullable=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("run_id", "group_id"),
    )
    op.create_table(
        "metrics",
        sa.Column("run_id", _TEXT, sa.ForeignKey("runs.run_id"), primary_key=True),
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Double),
        sa.Column("checksum", sa.LargeBinary, nullable=False),
    )
