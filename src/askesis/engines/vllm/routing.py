"""Which replica answers a session: the same one as long as it lives, and nobody else moves when one dies."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["choose"]


def choose(session: str, replicas: Sequence[int]) -> int:
    """The replica of highest rank for ``session`` among ``replicas`` (at least one), by rendezvous hashing.

    Each replica has a rank of its own for each session, so one that leaves takes only its own sessions with it, which
    spread over the others, and gets the same ones when it comes back.
    """
    return max(replicas, key=lambda replica: hashlib.blake2b(f"{session}\0{replica}".encode()).digest())
