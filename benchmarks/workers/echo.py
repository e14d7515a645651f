"""A worker that does nothing but wait, for tests of the harness."""

from __future__ import annotations

import time

from benchmarks.workers.channel import Channel

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Each round sleeps ``seconds``; round ``fails_in`` raises."""
    job = channel.job
    channel.ready(versions={"echo": "1"})
    while (request := channel.next()) is not None:
        if request["round"] == job.get("fails_in"):
            raise RuntimeError("told to fail")
        print("noise that must not reach the answers")
        time.sleep(job["seconds"])
        channel.finish(tokens=job.get("tokens", 1))
