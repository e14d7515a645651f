"""The trajectory store: every run, group, trace, verdict and metric in one database that can be checked."""

from askesis.store.copying import copy_store
from askesis.store.database import StoreUnreachable, is_url
from askesis.store.export import export_jsonl, export_parquet, messages_of
from askesis.store.query import query
from askesis.store.records import Finding, Group, Head, Member, Report, RunEntry, RunRecord, TraceSummary
from askesis.store.store import Store

__all__ = [
    "Finding",
    "Group",
    "Head",
    "Member",
    "Report",
    "RunEntry",
    "RunRecord",
    "Store",
    "StoreUnreachable",
    "TraceSummary",
    "copy_store",
    "export_jsonl",
    "export_parquet",
    "is_url",
    "messages_of",
    "query",
]
