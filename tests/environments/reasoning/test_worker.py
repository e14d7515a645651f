"""The worker's side of the protocol."""

from __future__ import annotations

import json
import subprocess
import sys

from askesis.environments.reasoning.worker import MEMORY_BYTES


def test_one_reply_per_request_and_an_end_with_the_input() -> None:
    draw = {"do": "draw", "cpu_seconds": 60, "options": {}, "seed": 1, "split": "train", "start": 3, "seconds": 0.0}
    requests = [
        {**draw, "family": "gcd"},
        {**draw, "family": "no_such_family"},
        {**draw, "family": "complex_arithmetic", "seconds": 9.0, "start": 61},
        {"do": "prepare", "cpu_seconds": 60, "family": "gcd", "options": {}, "seed": 1, "index": 0},
        {
            "do": "score",
            "cpu_seconds": 60,
            "family": "gcd",
            "options": {},
            "seed": 1,
            "index": 0,
            "answer": "\ud800\x00",
        },
    ]
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run(
        [sys.executable, "-m", "askesis.environments.reasoning.worker"],
        input=lines,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(replies) == len(requests)
    (item,) = replies[0]["ok"]
    assert set(item) == {"dataset_seed", "dataset_index", "question", "answer", "metadata"}
    assert replies[1]["error"] == "RecipeError" and "no family" in replies[1]["message"]
    assert len(replies[2]["ok"]) == 3 and set(replies[2]["ok"][0]["metadata"]) == {"result"}
    assert replies[3] == {"ok": None}
    assert replies[4] == {"ok": 0.0}


def test_the_memory_limit_is_a_few_gigabytes() -> None:
    assert 2**30 < MEMORY_BYTES < 2**34
