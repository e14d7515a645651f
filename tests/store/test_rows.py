"""What one group writes."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import create_engine, func, select

from askesis.store import Group, Store, query
from askesis.store.rows import GroupWrite, insert_blobs, trace_columns, verdict_columns
from askesis.store.schema import blobs, metadata


def test_the_leaves_of_a_group_are_in_a_fixed_order(group: Callable[..., Group]) -> None:
    names = [(leaf.kind, leaf.record) for leaf in GroupWrite(group(1)).leaves()]
    trace = "R/train/000001/000/"
    assert names == [
        ("group", "R/train/000001/000"),
        *(pair for i in range(3) for pair in (("trace", f"{trace}{i}"), ("verdict", f"{trace}{i}#0"))),
    ]


def test_derived_columns(group: Callable[..., Group]) -> None:
    good, tools, failed = group(1).members
    assert trace_columns(good.trace) == {
        "stop": "terminated",
        "failure": None,
        "num_calls": 1,
        "num_tokens": 50,
        "num_sampled": 30,
    }
    assert trace_columns(tools.trace)["num_tokens"] == 10 and trace_columns(tools.trace)["num_sampled"] == 5
    assert trace_columns(failed.trace)["failure"] == "evaluator/timeout"
    assert verdict_columns(good.verdict) == {"status": "ok", "evaluator": "exact/1", "reward": 1.1, "completed": 1}
    assert verdict_columns(tools.verdict)["reward"] is None


def test_each_token_is_stored_once(store: Store, group: Callable[..., Group]) -> None:
    store.append_group(group(4, members=19))  # 17 traces share a prompt of 20 tokens; each sampled 30 of its own
    _, ((prompts,),) = query(store.where, "SELECT count(*) FROM blobs WHERE size_bytes = 80")
    _, ((answers,),) = query(store.where, "SELECT count(DISTINCT tokens) FROM nodes WHERE num_tokens = 30")
    _, ((rows,),) = query(store.where, "SELECT count(*) FROM nodes WHERE num_tokens = 20")
    assert (prompts, answers, rows) == (1, 17, 17)


def test_blobs_are_inserted_once_however_many() -> None:
    contents = {i.to_bytes(32, "big"): i.to_bytes(4, "little") for i in range(1200)}
    with create_engine("sqlite://").connect() as connection:
        metadata.create_all(connection)
        for _ in range(2):
            insert_blobs(connection, contents)
        assert connection.execute(select(func.count()).select_from(blobs)).scalar() == 1200
