"""SQLite's full-text index: nothing to install, in memory or in a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from askesis.environments.search.corpus import Corpus, Hit, Passage
from askesis.environments.search.retrievers.words import words
from askesis.errors import EnvironmentFault

__all__ = ["FTS5Retriever"]


class FTS5Retriever:
    """BM25 as SQLite computes it (k1 = 1.2, b = 0.75), over any of a query's words.

    Args:
        corpus: what is indexed.
        path: a file to keep the index in; it must not exist. None: in memory.
    """

    is_deterministic = True

    def __init__(self, corpus: Corpus, *, path: Path | None = None) -> None:
        # One thread uses it at a time; it need not be the one that built it.
        self._database = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False)
        with self._database as database:
            database.execute("CREATE VIRTUAL TABLE passages USING fts5(id UNINDEXED, title, text)")
            rows = ((i + 1, p.id, p.title, p.text) for i in range(len(corpus)) for p in (corpus[i],))
            database.executemany("INSERT INTO passages(rowid, id, title, text) VALUES (?, ?, ?, ?)", rows)

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Hits with at least one word of the query."""
        return [self.find(query, k) for query in queries]

    def find(self, query: str, k: int) -> list[Hit]:
        """The hits of one query, without waiting."""
        known = dict.fromkeys(words(query.encode("utf-8", "replace").decode()))
        if not known or k < 1:
            return []
        match = " OR ".join(f'"{word}"' for word in known)  # words hold no quotation mark, so nothing is an operator
        try:
            rows = self._database.execute(
                "SELECT id, title, text, rank FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?",
                (match, k),
            ).fetchall()
        except sqlite3.Error as error:
            raise EnvironmentFault("the full-text index does not answer", got=str(error)) from error
        return [Hit(passage=Passage(id=i, title=title, text=text), score=-score) for i, title, text, score in rows]

    def close(self) -> None:
        """Release the database."""
        self._database.close()
