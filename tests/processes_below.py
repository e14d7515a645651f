"""Processes that others have started, as /proc knows them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def descendants(pid: int) -> set[tuple[int, str]]:
    """All processes below ``pid``, with when they were born."""
    below: dict[int, list[tuple[int, str]]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z":
                below.setdefault(int(fields[1]), []).append((int(folder.name), fields[19]))
    found: set[tuple[int, str]] = set()
    frontier = [pid]
    while frontier:
        for child in below.get(frontier.pop(), []):
            if child not in found:
                found.add(child)
                frontier.append(child[0])
    return found


def alive(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    found = set()
    for pid, born in processes:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and fields[19] == born:
                found.add((pid, born))
    return found


def actors_below(pid: int, kind: str) -> list[int]:
    """Processes below ``pid`` that are actors of this class in a Ray that was started there."""
    found = []
    for child, _ in descendants(pid):
        with suppress(OSError):
            if Path(f"/proc/{child}/cmdline").read_bytes().startswith(f"ray::{kind}".encode()):
                found.append(child)
    return found
