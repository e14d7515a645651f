"""The full-text index of SQLite."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.environments.search.retrievers.fts5 import FTS5Retriever
from askesis.errors import EnvironmentFault
from environments.search.retrievers.cases import CORPUS, ids


def test_it_can_lie_in_a_file(tmp_path: Path) -> None:
    retriever = FTS5Retriever(CORPUS, path=tmp_path / "index.db")
    assert ids(retriever.find("rome", 1)) == ["p1"] and (tmp_path / "index.db").stat().st_size > 0
    retriever.close()


def test_an_index_that_is_gone_is_a_typed_failure() -> None:
    retriever = FTS5Retriever(CORPUS)
    retriever.close()
    with pytest.raises(EnvironmentFault, match="does not answer"):
        retriever.find("rome", 1)
