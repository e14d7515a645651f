"""BM25's numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from askesis.environments.search.chain import ChainWorld
from askesis.environments.search.retrievers.bm25 import BM25Retriever
from askesis.environments.search.retrievers.words import words
from environments.search.retrievers.cases import CORPUS


def test_scores_are_those_of_the_formula() -> None:
    retriever = BM25Retriever(CORPUS)
    texts = [words(CORPUS[i].contents) for i in range(len(CORPUS))]
    average = sum(map(len, texts)) / len(texts)

    def score(query: str, text: list[str]) -> float:
        total = 0.0
        for word in words(query):
            n = sum(word in other for other in texts)
            frequency = text.count(word)
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            total += idf * frequency / (frequency + 0.9 * (1 - 0.4 + 0.4 * len(text) / average)) if frequency else 0
        return total

    for query in ("capital France", "cats bark", "paris paris"):
        expected = sorted((s for s in (score(query, text) for text in texts) if s), reverse=True)[:3]
        assert [hit.score for hit in retriever.find(query, 3)] == pytest.approx(expected, rel=1e-5)


def test_the_fact_that_is_asked_for_comes_first() -> None:
    world = ChainWorld(num_entities=500)
    retriever = BM25Retriever(world)
    rng = np.random.default_rng(0)
    for _ in range(100):
        chain = world.draw(rng, 1)
        person, relation = chain.people[0], chain.relations[0]
        hits = retriever.find(f"{world.names[person]} {world.relations[relation]}", 3)
        assert hits[0].passage.text == world.fact(person, relation) and len(hits) == 3
