"""The worker process: draws tasks and runs scorers apart from ours. Started by
:mod:`askesis.environments.reasoning.client`.

One request and one reply per line, both JSON. A reply is ``{"ok": result}`` or ``{"error": kind, "message":
text}``. The process ends when its input does, and each request has a limit of processor time, so that no worker
outlives its parent for long.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable, Mapping
from typing import Any

from askesis.environments.reasoning.drawing import Drawer
from askesis.environments.reasoning.scorers import IN_PROCESS, judge

__all__ = ["MEMORY_BYTES", "main"]

MEMORY_BYTES = 4 * 2**30
"""Address space that a worker may take."""


def main() -> None:
    """Serve requests until the input ends."""
    requests, replies = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)  # what a family prints or reads must not mix with the protocol
    os.dup2(nowhere, 1)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    drawer = Drawer()
    for line in requests:
        replies.write(json.dumps(_answer(drawer, json.loads(line))) + "\n")
        replies.flush()


def _answer(drawer: Drawer, request: dict[str, Any]) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit = int(used.ru_utime + used.ru_stime + request.pop("cpu_seconds")) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    try:
        return {"ok": _OPERATIONS[request.pop("do")](drawer, **request)}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error)[:2000]}


def _draw(
    drawer: Drawer, *, family: str, options: Mapping[str, Any], seed: int, split: str, start: int, seconds: float
) -> list[dict[str, Any]]:
    return [
        {
            "dataset_seed": dataset_seed,
            "dataset_index": position,
            "question": entry["question"],
            "answer": entry["answer"],
            "metadata": {key: entry["metadata"][key] for key in IN_PROCESS.get(family, ())},
        }
        for dataset_seed, position, entry in drawer.draw_many(family, options, seed, split, start, seconds)
    ]


def _prepare(drawer: Drawer, *, family: str, options: Mapping[str, Any], seed: int, index: int) -> None:
    drawer.entry(family, options, seed, index)


def _score(drawer: Drawer, *, family: str, options: Mapping[str, Any], seed: int, index: int, answer: str) -> float:
    entry = drawer.entry(family, options, seed, index)
    return judge(drawer.dataset(family, options, seed), family, answer, entry)


_OPERATIONS: Mapping[str, Callable[..., Any]] = {"draw": _draw, "prepare": _prepare, "score": _score}


if __name__ == "__main__":
    main()
