"""Measuring two programs fairly: each in a process of its own, in turn, after a warm-up, threads pinned, medians.

A side that cannot be measured is a row with its reason; it never stops the others.
"""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers import ROOT, PeerMissing, python_of

__all__ = ["Measured", "Side", "Worker", "WorkerFailed", "alternate", "measure", "table"]

_ANSWER_S = 1200.0
"""Longest time for one answer; loading vLLM takes a minute, TRL's longest step half of one."""


class WorkerFailed(Exception):
    """A worker broke off. The text says why."""


class Worker:
    """A worker process (:mod:`benchmarks.workers`): started with a job, asked for rounds.

    Args:
        job: JSON-ready; ``worker`` names the module.
        peer: whose virtual environment it runs in; ours unless given. May raise PeerMissing.
        threads: of its tensor operations, set from outside and inside.
    """

    def __init__(self, job: Mapping[str, Any], *, threads: int, peer: str | None = None) -> None:
        python = Path(sys.executable) if peer is None else python_of(peer)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  # open as long as the process
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.workers"],
            cwd=ROOT,
            env=_environment(threads, ours=peer is None),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.ready = self._ask({**job, "threads": threads})
        except WorkerFailed:
            self.close()
            raise

    def round(self, **request: Any) -> dict[str, Any]:
        """One timed round. Raises WorkerFailed."""
        return self._ask(request)

    def _ask(self, record: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(record) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None
        # One line per request: nothing waits in the buffer, so select sees all there is.
        if not select.select([self._process.stdout], [], [], _ANSWER_S)[0]:
            raise WorkerFailed(f"no answer within {_ANSWER_S:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"].splitlines()[0][:300])
        return answer

    def _last_words(self) -> str:
        self._process.wait(10)
        self._log.seek(0)
        lines = [line for line in self._log.read().splitlines() if line.strip()]
        return f"left with {self._process.returncode}: {lines[-1][:300] if lines else 'it said nothing'}"

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.close()
            self._process.wait(20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _environment(threads: int, *, ours: bool) -> dict[str, str]:
    """This process's environment with the threads pinned. Nothing may look for the network.

    A thread that waits gives its core away: next to other programs, threads that spin at barriers cost TRL several
    times its CPU time (NOTES.md). ``OMP_WAIT_POLICY`` can be set from outside for both sides.
    """
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = str(threads)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")] if ours else [str(ROOT)]
    environment["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a side's rounds cost. With a ``reason`` there is nothing else."""

    rounds: tuple[Mapping[str, Any], ...] = ()
    """Answers of the timed rounds."""
    ready: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None

    def median(self, name: str) -> float:
        """Median of a number that every answer has, for example ``wall_s``."""
        return statistics.median(float(r[name]) for r in self.rounds)

    def summary(self) -> dict[str, Any]:
        """JSON-ready: medians, range of the seconds, memory in MB; or the reason."""
        if self.reason is not None:
            return {"reason": self.reason}
        walls = [r["wall_s"] for r in self.rounds]
        tokens = self.median("tokens")
        peak_mb = max(r["peak_mb"] for r in self.rounds)
        return {
            "wall_s": self.median("wall_s"),
            "wall_s_range": [min(walls), max(walls)],
            "cpu_s": self.median("cpu_s"),
            "tokens": tokens,
            "tokens_per_s": tokens / self.median("wall_s"),
            "peak_mb": peak_mb,
            "loaded_mb": self.ready["loaded_mb"],
            "own_mb": peak_mb - self.ready["loaded_mb"],
            "versions": self.ready.get("versions", {}),
        }


Side = tuple[Mapping[str, Any], str | None]
"""A worker's job, and the peer whose environment it needs."""


def measure(sides: Mapping[str, Side], *, rounds: int, threads: int, warm_ups: int = 1) -> dict[str, Measured]:
    """Start all sides, run them in turn, end them."""
    workers: dict[str, Worker] = {}
    failed: dict[str, Measured] = {}
    try:
        for name, (job, peer) in sides.items():
            try:
                workers[name] = Worker({**job, "rounds": rounds + warm_ups}, threads=threads, peer=peer)
            except (PeerMissing, WorkerFailed) as error:
                failed[name] = Measured(reason=str(error))
        results = {**alternate(workers, rounds=rounds, warm_ups=warm_ups), **failed}
    finally:
        for worker in workers.values():
            worker.close()
    return {name: results[name] for name in sides}


def alternate(
    workers: Mapping[str, Worker], *, rounds: int, warm_ups: int = 1, request: Mapping[str, Any] | None = None
) -> dict[str, Measured]:
    """Ask each worker for every round in turn, forwards and backwards; the first ``warm_ups`` are not counted.

    ``request`` goes out with every round's number. A worker that fails is out; its row says why.
    """
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    reasons: dict[str, str] = {}
    for number in range(warm_ups + rounds):
        order = list(workers) if number % 2 == 0 else list(workers)[::-1]
        for name in order:
            if name in reasons:
                continue
            try:
                answers[name].append(workers[name].round(round=number, **(request or {})))
            except WorkerFailed as error:
                reasons[name] = str(error)
    return {
        name: Measured(reason=reasons[name])
        if name in reasons
        else Measured(rounds=tuple(answers[name][warm_ups:]), ready=worker.ready)
        for name, worker in workers.items()
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first aligned to the left, the others to the right. A row with fewer cells runs on after them."""
    widths = [max(len(row[i]) for row in [header, *rows] if len(row) == len(header)) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        if len(row) < len(header):
            lines.append(f"{row[0]:<{widths[0]}}  {'  '.join(row[1:])}")
        else:
            cells = [f"{row[0]:<{widths[0]}}", *(f"{cell:>{w}}" for cell, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
