"""Records survive the way to bytes and back; each leaf depends on all of its content."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.errors import StoreCorrupt
from askesis.store import RunRecord
from askesis.store.canonical import (
    altered,
    checksum,
    consumption_leaf,
    decoding,
    from_json,
    group_leaf,
    printable,
    run_leaf,
    run_of,
    run_to_dict,
    task_leaf,
    task_of,
    trace_leaf,
    verdict_leaf,
    verdict_of,
    verdict_to_dict,
)
from askesis.trace import Budgets, Failure, FailureOrigin, Task, Verdict, VerdictStatus, canonical_json

text = st.text(st.characters(codec=None), max_size=20)
number = st.floats(allow_nan=False, allow_infinity=False)


def test_a_leaf_is_the_rfc_hash_of_canonical_json() -> None:
    data = b'{"group":"G","kind":"consumption","run":"R","step":4}'
    leaf = consumption_leaf("R", "G", 4)
    assert leaf.hash == hashlib.sha256(b"\0" + data).digest()
    assert (leaf.kind, leaf.record) == ("consumption", "R <- G")


def test_every_field_is_in_its_leaf() -> None:
    group = ("g", "r", "train", 1, "t", 2)
    trace = ("g/0", "r", "g", 0, 5, 6, "t", b"bytes")
    for make, base in ((group_leaf, group), (trace_leaf, trace), (consumption_leaf, ("r", "g", 1))):
        hashes = {make(*base).hash}
        for place, value in enumerate(base):
            other = value + 1 if isinstance(value, int) else value + value[:1]
            hashes.add(make(*base[:place], other, *base[place + 1 :]).hash)
        # The name of a trace follows from group and member, which are in its leaf.
        assert len(hashes) == len(base) + 1 - (make is trace_leaf)
    assert task_leaf("a").hash != task_leaf("b").hash
    assert verdict_leaf("t", 0, {"a": 1}).hash != verdict_leaf("t", 1, {"a": 1}).hash


@given(text, st.dictionaries(text, st.one_of(st.none(), st.integers(), number, text), max_size=4))
def test_a_run_and_a_task_come_back(words: str, payload: dict[str, object]) -> None:
    run = RunRecord(run_id="R", recipe_hash=words, recipe=payload, seed=1, versions={"a": words})
    again = run_of("R", from_json(canonical_json(run_to_dict(run))))
    assert again == run and run_leaf(again) == run_leaf(run)
    task = Task(
        key=words, environment="e", payload=payload, seed=3, tags=(words,), budgets=Budgets(turns=2, seconds=1.5)
    )
    assert task_of(from_json(canonical_json(task.to_dict()))) == task


# A verdict refuses rewards whose weighted sum overflows.
reward = st.tuples(st.floats(-1e100, 1e100), st.floats(-1e100, 1e100))


@given(text, st.dictionaries(text, reward, min_size=1, max_size=3), st.none() | st.booleans())
def test_a_verdict_comes_back(words: str, rewards: dict[str, tuple[float, float]], completed: bool | None) -> None:
    good = Verdict(
        status=VerdictStatus.OK,
        evaluator=words,
        rewards=rewards,
        step_rewards=(1.0, 2.0),
        completed=completed,
        evidence={words: [words]},
    )
    failure = Failure(origin=FailureOrigin.EVALUATOR, kind=words, message=words, traceback=words)
    bad = Verdict(status=VerdictStatus.ERROR, evaluator="e", error=failure, due_at=0.1)
    for verdict in (good, bad):
        assert verdict_of(from_json(canonical_json(verdict_to_dict(verdict)))) == verdict


@given(text)
def test_printable_text_fits_any_column(words: str) -> None:
    shown = printable(words)
    assert shown.isprintable() and "\0" not in shown
    assert bool(shown.encode()) == bool(words)
    if words.isprintable():
        assert shown == words


def test_the_checksum_sees_type_and_value() -> None:
    assert len(checksum(1)) == 8
    assert len({checksum(1), checksum(1.0), checksum("1"), checksum(None), checksum(1, None)}) == 5


def test_whatever_fails_in_decoding_is_damage_to_the_named_record() -> None:
    for problem in (KeyError("x"), TypeError("x"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")):
        with pytest.raises(StoreCorrupt) as error, decoding("trace T"):
            raise problem
        assert error.value.where == "trace T" and type(problem).__name__ in (error.value.got or "")
    with pytest.raises(StoreCorrupt) as error, decoding("table T"):
        raise altered("trace T", "gone")
    assert error.value.where == "trace T" and error.value.got == "gone"
    with pytest.raises(ZeroDivisionError), decoding("trace T"):
        raise ZeroDivisionError
