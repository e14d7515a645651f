"""The log's rows, and the heads that are kept outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, select, update

from askesis.errors import StoreCorrupt
from askesis.store import Head
from askesis.store.canonical import Leaf, consumption_leaf
from askesis.store.log import append_leaves, create_log, head_of, is_logged, read_frontier, read_heads, write_head
from askesis.store.merkle import root_of
from askesis.store.schema import log, log_state, metadata


def test_appending_numbers_the_leaves_and_moves_the_frontier() -> None:
    leaves = [consumption_leaf("R", "G", i) for i in range(7)]
    with create_engine("sqlite://").connect() as connection:
        metadata.create_all(connection)
        create_log(connection)
        assert head_of(read_frontier(connection)) == Head(size=0, root=root_of([]).hex())
        assert append_leaves(connection, leaves[:3]) == 0
        assert append_leaves(connection, leaves[3:]) == 3
        assert head_of(read_frontier(connection)) == Head(size=7, root=root_of([x.hash for x in leaves]).hex())
        assert is_logged(connection, 5, leaves[5])
        assert not is_logged(connection, 4, leaves[5]) and not is_logged(connection, 99, leaves[5])
        rows = connection.execute(select(log).order_by(log.c.leaf)).all()
        assert [(r.leaf, Leaf(r.kind, r.record, r.hash)) for r in rows] == list(enumerate(leaves))


def test_a_damaged_frontier_is_named() -> None:
    with create_engine("sqlite://").connect() as connection:
        metadata.create_all(connection)
        with pytest.raises(StoreCorrupt, match="not what was written"):
            read_frontier(connection)
        create_log(connection)
        connection.execute(update(log_state).values(size=3))
        with pytest.raises(StoreCorrupt) as error:
            read_frontier(connection)
        assert error.value.where == "log" and "frontier" in (error.value.got or "")


def test_heads_are_appended_and_an_unfinished_line_is_no_head(tmp_path: Path) -> None:
    path, heads = tmp_path / "heads", [Head(size=i, root=f"{i:064x}") for i in range(3)]
    for head in heads:
        write_head(path, head)
    assert read_heads(path) == heads
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"size": 9, "ro')
    assert read_heads(path) == heads
    write_head(path, heads[0])
    assert path.read_bytes().startswith(whole) and read_heads(path) == [*heads, heads[0]]


@pytest.mark.parametrize(
    "bad", [b"nonsense", b"[1]", b'{"size": -1, "root": "00"}', b'{"size": 1, "root": "zz"}', b"3"]
)
def test_a_line_that_is_no_head_is_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "heads"
    path.write_bytes(bad + b"\n")
    with pytest.raises(StoreCorrupt) as error:
        read_heads(path)
    assert error.value.where == f"{path}:1"
