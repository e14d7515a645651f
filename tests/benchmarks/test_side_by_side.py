from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from benchmarks.side_by_side import Measured, Worker, WorkerFailed, alternate, measure, table


def echo(seconds: float, **more: Any) -> dict[str, Any]:
    return {"worker": "echo", "seconds": seconds, **more}


def test_a_round_is_timed_and_what_libraries_print_is_no_answer() -> None:
    with Worker(echo(0.05, tokens=7), threads=1) as worker:
        assert worker.ready["versions"] == {"echo": "1"}
        answer = worker.round(round=0)
    assert 0.05 <= answer["wall_s"] < 1.0
    assert answer["cpu_s"] < 0.05
    assert answer["tokens"] == 7


def test_a_worker_that_raises_gives_its_reason() -> None:
    with Worker(echo(0.0, fails_in=1), threads=1) as worker:
        worker.round(round=0)
        with pytest.raises(WorkerFailed, match="RuntimeError: told to fail"):
            worker.round(round=1)


def test_an_unknown_worker_gives_its_reason() -> None:
    with pytest.raises(WorkerFailed, match="no worker is called 'nobody'"):
        Worker({"worker": "nobody"}, threads=1)


def test_a_peer_without_its_environment_and_a_worker_that_breaks_are_rows_with_reasons(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("benchmarks.side_by_side.python_of", _missing)
    measured = measure(
        {"ours": (echo(0.0), None), "breaks": (echo(0.0, fails_in=1), None), "gone": (echo(0.0), "trl")},
        rounds=2,
        threads=1,
    )
    assert list(measured) == ["ours", "breaks", "gone"]
    assert measured["ours"].reason is None
    assert len(measured["ours"].rounds) == 2
    assert measured["breaks"].reason == "RuntimeError: told to fail"
    assert measured["gone"].reason == "trl is not installed"


def _missing(name: str) -> None:
    from benchmarks.peers import PeerMissing

    raise PeerMissing(f"{name} is not installed")


class Recorder:
    """Stands where a worker stands and notes who was asked for what."""

    ready: Mapping[str, Any] = {"loaded_mb": 10.0}

    def __init__(self, name: str, log: list[tuple[str, int]], seconds: list[float]) -> None:
        self.name, self.log, self.seconds = name, log, seconds

    def round(self, **request: Any) -> dict[str, Any]:
        number = request["round"]
        self.log.append((self.name, number))
        return {"wall_s": self.seconds[number], "cpu_s": 1.0, "peak_mb": 30.0 + number, "tokens": 4}


def test_sides_take_turns_and_warm_ups_do_not_count() -> None:
    log: list[tuple[str, int]] = []
    workers: Any = {"a": Recorder("a", log, [9.0, 1.0, 5.0, 3.0]), "b": Recorder("b", log, [9.0, 2.0, 2.0, 2.0])}
    measured = alternate(workers, rounds=3)
    assert log == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2), ("b", 3), ("a", 3)]
    assert measured["a"].median("wall_s") == 3.0
    summary = measured["a"].summary()
    assert summary["wall_s_range"] == [1.0, 5.0]
    assert summary["tokens_per_s"] == pytest.approx(4 / 3)
    assert (summary["peak_mb"], summary["own_mb"]) == (33.0, 23.0)


def test_the_request_of_a_round_reaches_the_worker() -> None:
    seen: list[Any] = []

    class Asked(Recorder):
        def round(self, **request: Any) -> dict[str, Any]:
            seen.append(request)
            return super().round(**request)

    workers: Any = {"a": Asked("a", [], [1.0, 1.0])}
    alternate(workers, rounds=1, request={"load": 5})
    assert seen == [{"round": 0, "load": 5}, {"round": 1, "load": 5}]


def test_an_unmeasured_side_summarises_to_its_reason() -> None:
    assert Measured(reason="why").summary() == {"reason": "why"}


def test_table_aligns_and_lets_a_reason_run_on() -> None:
    text = table(["", "s", "MB"], [["ours", "1.0", "12"], ["peer", "not measured: it is a long story"]])
    assert text.splitlines() == ["        s  MB", "ours  1.0  12", "peer  not measured: it is a long story"]
