"""One changed byte anywhere in the file: an error, a finding, or nothing that anyone can read has changed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from askesis.errors import StoreCorrupt
from askesis.store import Group, Store, query
from askesis.trace import encode

FLIPS = int(os.environ.get("ASKESIS_TEST_FLIPS", "160"))
PARTS = 8
"""The first every time, the others when they are asked for."""


def everything(store: Store) -> list[object]:
    """Every value that the store can return."""
    values: list[object] = [store.head(), store.runs(), store.consumed("R"), store.metrics("R")]
    for group in store.groups("R"):
        values += [group.group_id, group.run_id, group.purpose, group.step, group.task]
        for m in group.members:
            values += [m.member_index, m.seed, encode(m.trace), m.verdict, m.duration_s, m.policy_version]
            values += store.verdicts(group.trace_id(m))
    return [*values, *store.trace_summaries("R")]


@pytest.fixture
def small(store: Store, group: Callable[..., Group], tmp_path: Path) -> Path:
    """A closed store with two groups and a bit of everything else; its head lies in ``store.heads`` beside it."""
    store.append_group(group(0))
    store.append_group(group(1, members=1))
    store.append_verdict("R/train/000000/000/2", group(0).members[0].verdict)
    store.consume("R", ["R/train/000000/000"], step=1)
    store.log_metrics("R", 1, {"loss": 1.0 / 3, "reward": None})
    store.write_head(tmp_path / "store.heads")
    store.close()
    return Path(store.where)


def outcome(path: Path, expected: list[object]) -> str:
    try:
        with Store.open(path, read_only=True) as store:
            report = store.verify(heads=path.with_suffix(".heads"))
            if not report.ok:
                assert all(f.record and f.problem for f in report.findings)
                return "found"
            assert everything(store) == expected
            return "harmless"
    except StoreCorrupt as error:
        assert error.next_step
        return "corrupt"


@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.opt_in) for n in range(1, PARTS))])
def test_flipped_bytes(small: Path, part: int) -> None:
    with Store.open(small, read_only=True) as store:
        expected = everything(store)
    good = small.read_bytes()
    written = [i for i, value in enumerate(good) if value]
    rng = random.Random(part)
    seen: dict[str, int] = {}
    for _ in range(FLIPS // PARTS):
        # Pages are mostly empty: half of the flips go anywhere, half where something is written.
        place, change = rng.choice((rng.randrange(len(good)), rng.choice(written))), rng.randrange(1, 256)
        bad = bytearray(good)
        bad[place] ^= change
        small.write_bytes(bad)
        for leftover in ("-wal", "-shm"):
            small.with_name(small.name + leftover).unlink(missing_ok=True)
        try:
            result = outcome(small, expected)
        except BaseException as error:
            error.add_note(f"byte {place} ^ {change}")
            raise
        seen[result] = seen.get(result, 0) + 1
    assert seen.get("found", 0) + seen.get("corrupt", 0) > FLIPS // PARTS // 4


def test_flipped_bytes_of_the_definitions_and_the_file_header(small: Path) -> None:
    with Store.open(small, read_only=True) as store:
        expected = everything(store)
    good = small.read_bytes()
    rng = random.Random(99)
    seen = set()
    for place in [*range(16, 108, 5), *(rng.randrange(108, 4096) for _ in range(10))]:
        bad = bytearray(good)
        bad[place] ^= rng.randrange(1, 256)
        small.write_bytes(bad)
        for leftover in ("-wal", "-shm"):
            small.with_name(small.name + leftover).unlink(missing_ok=True)
        seen.add(outcome(small, expected))
    assert {"corrupt", "harmless"} <= seen


def test_a_flipped_byte_of_the_write_ahead_log_loses_no_commit_unseen(
    store: Store, group: Callable[..., Group], tmp_path: Path
) -> None:
    """The tail that no longer checks out is gone; the head that was published shows it."""
    heads = tmp_path / "store.heads"
    for number in range(3):
        store.append_group(group(number))
    store.write_head(heads)
    expected = everything(store)
    good = {suffix: Path(store.where + suffix).read_bytes() for suffix in ("", "-wal")}
    rng = random.Random(5)
    copy = tmp_path / "copy" / "store.db"
    copy.parent.mkdir()
    seen = set()
    copy.with_suffix(".heads").write_bytes(heads.read_bytes())
    for _ in range(12):
        bad = bytearray(good["-wal"])
        bad[rng.randrange(len(bad))] ^= rng.randrange(1, 256)
        copy.write_bytes(good[""])
        copy.with_name("store.db-wal").write_bytes(bad)
        copy.with_name("store.db-shm").unlink(missing_ok=True)
        seen.add(outcome(copy, expected))
    assert "found" in seen or "corrupt" in seen


def test_a_question_to_a_damaged_file_is_answered_with_an_error(full: Path) -> None:
    data = bytearray(full.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    full.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        query(full, "SELECT count(*) FROM traces")
