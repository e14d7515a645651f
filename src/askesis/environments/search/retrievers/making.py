"""A retriever by its name in a recipe."""

from __future__ import annotations

from askesis.environments.search.corpus import Corpus
from askesis.environments.search.retrievers.protocol import Retriever
from askesis.errors import RecipeError, did_you_mean

__all__ = ["RETRIEVERS", "make_retriever"]

RETRIEVERS = ("bm25", "fts5", "dense", "http")


def make_retriever(name: str, corpus: Corpus | None, *, url: str = "", encoder: str = "") -> Retriever:
    """Build a retriever over ``corpus``; for ``http``, which has a corpus of its own, ``corpus`` is not looked at.

    Args:
        name: one of :data:`RETRIEVERS`. ``bm25`` needs the extra ``search``.
        corpus: what to search.
        url: of the service, for ``http``.
        encoder: folder or name of the model, for ``dense``.

    Raises:
        RecipeError: an unknown name, or something missing that the retriever needs.
        MissingExtra: the package that it needs is not installed.
    """
    if name not in RETRIEVERS:
        raise RecipeError(
            f"there is no retriever called {name!r}",
            where="environment.options.retriever",
            got=name,
            expected=", ".join(RETRIEVERS),
            next_step=did_you_mean(name, RETRIEVERS),
        )
    if name == "http":
        from askesis.environments.search.retrievers.http import HttpRetriever

        return HttpRetriever(_given("url", url, "the address of a service, for example http://127.0.0.1:8000/retrieve"))
    if corpus is None:
        raise RecipeError(
            f"the retriever {name} needs a corpus",
            where="environment.options.corpus",
            expected="a JSONL file of passages",
        )
    if name == "bm25":
        from askesis.environments.search.retrievers.bm25 import BM25Retriever

        return BM25Retriever(corpus)
    if name == "fts5":
        from askesis.environments.search.retrievers.fts5 import FTS5Retriever

        return FTS5Retriever(corpus)
    from askesis.environments.search.retrievers.dense import DenseRetriever

    return DenseRetriever(corpus, _given("encoder", encoder, "a model, for example intfloat/e5-base-v2"))


def _given(option: str, value: str, expected: str) -> str:
    if not value:
        raise RecipeError(
            "the retriever needs one more option",
            where=f"environment.options.{option}",
            expected=expected,
        )
    return value
