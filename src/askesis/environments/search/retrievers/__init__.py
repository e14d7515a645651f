"""Who finds passages: BM25 in process, SQLite's full-text index, dense vectors, or a service over HTTP."""

from askesis.environments.search.retrievers.making import RETRIEVERS, make_retriever
from askesis.environments.search.retrievers.protocol import Retriever

__all__ = ["RETRIEVERS", "Retriever", "make_retriever"]
