"""A table of the groups that wait: claiming one takes no longer in a large store than in a small one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

__all__ = ["upgrade"]

revision = "0002"
down_revision: str | None = "0001"

_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")

_FILL = """
INSERT INTO ready (run_id, purpose, step, leaf)
SELECT g.run_id, g.purpose, g.step, g.leaf FROM groups g
WHERE NOT EXISTS (SELECT 1 FROM consumptions c WHERE c.run_id = g.run_id AND c.group_id = g.group_id)
AND NOT EXISTS (
    SELECT 1 FROM traces t JOIN verdicts v ON v.trace_id = t.trace_id
    WHERE t.group_id = g.group_id AND v.status = 'pending'
    AND v.sequence = (SELECT max(w.sequence) FROM verdicts w WHERE w.trace_id = t.trace_id)
)
"""


def upgrade() -> None:
    """Create the table with what waits now, and find consumptions by their step."""
    op.create_table(
        "ready",
        sa.Column("run_id", _TEXT, primary_key=True),
        sa.Column("purpose", _TEXT, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("leaf", sa.Integer, sa.ForeignKey("groups.leaf"), primary_key=True, autoincrement=False),
    )
    op.create_index("ix_consumptions_run_id_step", "consumptions", ["run_id", "step"])
    op.execute(_FILL)
