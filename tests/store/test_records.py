"""Names and numbers that a database can hold."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from askesis.errors import StoreError
from askesis.store import Group
from askesis.store.records import checked_int, checked_name


def test_the_name_of_a_trace(group: Callable[..., Group]) -> None:
    new = group(12)
    assert [new.trace_id(m) for m in new.members] == [f"R/train/000012/000/{i}" for i in range(3)]


@pytest.mark.parametrize("bad", ["", "a\0b", "a\nb", "\ud800", "x" * 201, 3, None])
def test_a_bad_name_is_refused(bad: str) -> None:
    with pytest.raises(StoreError, match="a run_id cannot be used as a name"):
        checked_name(bad, "run_id")


def test_good_names_pass() -> None:
    assert checked_name("R/träin/1 #2", "run_id") == "R/träin/1 #2"


@pytest.mark.parametrize("bad", [2**63, -(2**63) - 1, 1.0, "1"])
def test_a_number_that_does_not_fit_is_refused(bad: int) -> None:
    with pytest.raises(StoreError, match="a seed does not fit"):
        checked_int(bad, "seed")
    assert checked_int(2**63 - 1, "seed") == 2**63 - 1
