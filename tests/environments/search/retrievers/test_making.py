"""Retrievers by name."""

from __future__ import annotations

import sys

import pytest

from askesis.environments.search.retrievers import RETRIEVERS, make_retriever
from askesis.environments.search.retrievers.http import HttpRetriever
from askesis.errors import MissingExtra, RecipeError
from environments.search.retrievers.cases import CORPUS


@pytest.mark.parametrize(
    ("name", "corpus", "message"),
    [
        ("bm26", CORPUS, "did you mean 'bm25'"),
        ("bm25", None, "needs a corpus"),
        ("http", None, "options.url"),
        ("dense", CORPUS, "options.encoder"),
    ],
)
def test_what_is_missing_is_said(name: str, corpus: object, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        make_retriever(name, corpus)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_a_service_needs_no_corpus() -> None:
    assert isinstance(make_retriever("http", None, url="http://127.0.0.1:1/retrieve"), HttpRetriever)
    assert set(RETRIEVERS) == {"bm25", "fts5", "dense", "http"}


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=r"askesis\[search\]"):
        make_retriever("bm25", CORPUS)
