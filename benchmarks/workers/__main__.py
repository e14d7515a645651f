"""Start the worker that the job names; what stops it is its last line."""

from __future__ import annotations

import importlib
import sys
import traceback

from benchmarks.workers.channel import Channel

WORKERS = (
    "echo",
    "evolution",
    "generate",
    "learner",
    "per_call",
    "rate",
    "sampler",
    "searching",
    "sessions",
    "step",
    "trl",
    "trl_turns",
    "vllm",
)
"""Modules of this package with a function ``serve(channel)``."""


def main() -> int:
    """Exit code 1 after a failure, which has been reported by then."""
    channel = Channel.of_process()
    try:
        kind = channel.job["worker"]
        if kind not in WORKERS:
            raise ValueError(f"no worker is called {kind!r}")
        importlib.import_module(f"benchmarks.workers.{kind}").serve(channel)
    except Exception as error:
        traceback.print_exc()
        channel.fail(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
