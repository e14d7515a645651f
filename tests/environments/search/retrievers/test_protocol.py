"""Every retriever in process does what the protocol says."""

from __future__ import annotations

import asyncio

import pytest

from askesis.environments.search.retrievers import Retriever, make_retriever
from environments.search.retrievers.cases import CORPUS, HOSTILE, find, ids


@pytest.fixture(scope="module", params=["bm25", "fts5"])
def retriever(request: pytest.FixtureRequest) -> Retriever:
    return make_retriever(request.param, CORPUS)


def test_the_best_come_first_and_what_does_not_fit_does_not_come(retriever: Retriever) -> None:
    assert ids(find(retriever, "What is the capital of France?")) == ["p0", "p1"]
    hits = find(retriever, "cats")
    assert ids(hits) == ["p2", "p3"] and hits[0].score > hits[1].score > 0
    assert find(retriever, "unknown words") == [] and find(retriever, "the of is") == []
    assert ids(find(retriever, "capital", 1)) == ["p0"] and find(retriever, "capital", 0) == []


def test_ties_come_in_the_order_of_the_corpus(retriever: Retriever) -> None:
    assert ids(find(retriever, "matters", 1)) == ["p4"] and ids(find(retriever, "matters")) == ["p4", "p5"]
    assert ids(find(retriever, "capital", 2)) == ["p0", "p1"]


@pytest.mark.parametrize("query", HOSTILE)
def test_no_query_raises(retriever: Retriever, query: str) -> None:
    assert len(find(retriever, query)) <= 3
    assert ids(find(retriever, "cats")) == ["p2", "p3"]  # and nothing is broken afterwards


def test_many_queries_are_answered_in_order(retriever: Retriever) -> None:
    found = asyncio.run(retriever.search(["rome", "nothing here?", "dogs"], 2))
    assert [ids(hits) for hits in found] == [["p1"], ["p4", "p5"], ["p3"]]
    assert retriever.is_deterministic
