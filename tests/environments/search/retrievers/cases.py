"""A small corpus, and what every retriever must do with hostile queries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from askesis.environments.search.corpus import Hit, ListCorpus, Passage
from askesis.environments.search.retrievers import Retriever

CORPUS = ListCorpus(
    Passage(id=f"p{i}", title=title, text=text)
    for i, (title, text) in enumerate(
        [
            ("Paris", "Paris is the capital of France."),
            ("Rome", "Rome is the capital of Italy."),
            ("Cats", "Cats sleep all day."),
            ("Dogs", "Dogs bark at cats."),
            ("Twin", "Nothing else matters."),
            ("Twin", "Nothing else matters."),
        ]
    )
)

HOSTILE = (
    "",
    " ",
    "\x00",
    "\ud800",
    '" OR 1=1 --',
    "NEAR(a b)",
    "title:*",
    "a" * 10_000,
    "日本",
    "' ; DROP TABLE passages",
)


def find(retriever: Retriever, query: str, k: int = 3) -> list[Hit]:
    return asyncio.run(retriever.search([query], k))[0]


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.id for hit in hits]
