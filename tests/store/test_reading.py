"""Reading refuses what is not what was written, and names it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from askesis.errors import StoreCorrupt
from askesis.store import Store

G = "R/train/000000/000"
CHANGES = {
    f"trace {G}/0": [
        "UPDATE traces SET seed = 1 WHERE member_index = 0",
        "UPDATE traces SET duration_s = 9.0 WHERE member_index = 0",
        "UPDATE traces SET stop = 'failed' WHERE member_index = 0",
        "UPDATE traces SET header = 'text' WHERE member_index = 0",
        "UPDATE traces SET header = x'7b7d' WHERE member_index = 0",
        "UPDATE nodes SET node_index = 20 WHERE node_index = 1",
        "UPDATE traces SET logprobs = x'00'",
        "DELETE FROM nodes",
        "DELETE FROM verdicts",
        "UPDATE nodes SET tokens = (SELECT tokens FROM nodes WHERE num_tokens = 30 LIMIT 1)",
        "UPDATE blobs SET data = x'00'",
        "UPDATE blobs SET data = 'text'",
    ],
    f"trace {G}/1": ["UPDATE nodes SET parent = NULL WHERE parent = 1"],
    f"verdict {G}/0#0": ["UPDATE verdicts SET reward = 9", "UPDATE verdicts SET record = x'00'"],
    f"group {G}": [
        "UPDATE groups SET step = 5",
        "UPDATE groups SET num_members = 2, purpose = 'x'",
        "DELETE FROM traces WHERE member_index = 2",
        "UPDATE tasks SET record = x'7b7d'",
        "DELETE FROM tasks",
        "DELETE FROM log",
    ],
}


@pytest.mark.parametrize(("record", "sql"), [(record, sql) for record, all_sql in CHANGES.items() for sql in all_sql])
def test_an_altered_record_is_not_returned(full: Path, record: str, sql: str) -> None:
    connection = sqlite3.connect(full)
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute(sql)
    connection.commit()
    connection.close()
    with Store.open(full, read_only=True) as store:
        with pytest.raises(StoreCorrupt) as error:
            store.group(G)
        assert error.value.where == record and error.value.next_step
        assert not store.verify().ok
