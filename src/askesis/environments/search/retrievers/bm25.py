"""BM25 in process, by bm25s: an index of scores computed when it is built, so that a query is a sum of columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from askesis.environments.search.corpus import Corpus, Hit
from askesis.environments.search.retrievers.words import words
from askesis.errors import MissingExtra

__all__ = ["BM25Retriever"]


class BM25Retriever:
    """BM25 with the smoothed idf of Lucene, ``k1 = 0.9`` and ``b = 0.4`` (the constants of Anserini).

    idf = ln(1 + (N - n + 0.5) / (n + 0.5)); the constant factor ``k1 + 1`` is left out, which changes no order.
    Raises MissingExtra without the package bm25s.
    """

    is_deterministic = True

    def __init__(self, corpus: Corpus, *, k1: float = 0.9, b: float = 0.4) -> None:
        try:
            import bm25s  # type: ignore[import-untyped]
        except ImportError as error:
            raise MissingExtra("bm25s", "search", "the retriever bm25") from error
        self._corpus = corpus
        self._index = bm25s.BM25(method="lucene", k1=k1, b=b)
        tokens = [words(corpus[i].contents) for i in range(len(corpus))]
        self._index.index(tokens, show_progress=False)
        self._known = self._index.vocab_dict

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Hits with at least one word of the query."""
        return [self.find(query, k) for query in queries]

    def find(self, query: str, k: int) -> list[Hit]:
        """The hits of one query, without waiting."""
        known = [word for word in words(query) if word in self._known]
        if not known or k < 1:
            return []
        scores = self._index.get_scores(known)
        found = np.flatnonzero(scores)
        values = scores[found]
        if len(found) > k:
            # All that tie with the k-th stay in, so that ties are broken by place and not by the partition's whim.
            kept = values >= np.partition(values, len(values) - k)[len(values) - k]
            found, values = found[kept], values[kept]
        order = np.lexsort((found, -values))[:k]
        return [Hit(passage=self._corpus[int(found[i])], score=float(values[i])) for i in order]
