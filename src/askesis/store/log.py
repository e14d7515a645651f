"""The Merkle log as rows: leaves, and the frontier that the next append starts from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from askesis.errors import StoreCorrupt
from askesis.store.bulk import insert_rows
from askesis.store.canonical import Leaf, altered
from askesis.store.merkle import Frontier
from askesis.store.records import Head
from askesis.store.schema import log, log_state

__all__ = ["append_leaves", "head_of", "is_logged", "read_frontier", "read_heads", "write_head"]

_STATE_ID = 1


def create_log(connection: Connection) -> None:
    """The empty log of a new store."""
    connection.execute(insert(log_state), {"id": _STATE_ID, "size": 0, "frontier": b""})


def read_frontier(connection: Connection) -> Frontier:
    """The stored frontier. Raises StoreCorrupt if it cannot be one."""
    row = connection.execute(select(log_state.c.size, log_state.c.frontier).where(log_state.c.id == _STATE_ID)).first()
    if row is None:
        raise altered("log", "its state is missing")
    try:
        return Frontier.from_bytes(row.size, row.frontier)
    except (ValueError, TypeError, AttributeError) as error:
        raise altered("log", f"its frontier is damaged: {error}") from error


def append_leaves(connection: Connection, leaves: Sequence[Leaf]) -> int:
    """Append to the log inside a writing transaction; the number of the first new leaf is returned."""
    frontier = read_frontier(connection)
    first = frontier.size
    for leaf in leaves:
        frontier.push(leaf.hash)
    insert_rows(connection, log, [(first + i, *leaf) for i, leaf in enumerate(leaves)])
    state = {"size": frontier.size, "frontier": frontier.to_bytes()}
    connection.execute(update(log_state).where(log_state.c.id == _STATE_ID).values(**state))
    return first


def is_logged(connection: Connection, leaf: int, entry: Leaf) -> bool:
    """Is ``entry`` what was logged as number ``leaf``?"""
    return connection.execute(select(log.c.hash).where(log.c.leaf == leaf)).scalar() == entry.hash


def head_of(frontier: Frontier) -> Head:
    """A frontier as the value that is published."""
    return Head(size=frontier.size, root=frontier.root().hex())


def write_head(path: Path, head: Head) -> None:
    """Append a head to a file of heads and flush it to disk. A line that a power cut left unfinished is removed."""
    is_new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.write(json.dumps({"size": head.size, "root": head.root}).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if is_new and os.name == "posix":  # the new file's name must be durable too; Windows has no such call
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_heads(path: Path) -> list[Head]:
    """All heads of a file; an unfinished last line is not one. Raises StoreCorrupt for any other bad line."""
    heads = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            record = json.loads(line)
            size, root = record["size"], bytes.fromhex(record["root"]).hex()
        except (ValueError, KeyError, TypeError) as error:
            raise StoreCorrupt(
                "a line of the heads file is not a head", where=f"{path}:{number}", got=line.decode("utf-8", "replace")
            ) from error
        if not isinstance(size, int) or size < 0 or len(root) != 64:
            raise StoreCorrupt("a line of the heads file is not a head", where=f"{path}:{number}", got=record)
        heads.append(Head(size=size, root=root))
    return heads
