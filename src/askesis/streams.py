"""Named streams of randomness.

Every random number comes from a stream that is named by what it is for: ``(run seed, purpose, ids...)``. No library
code seeds a global generator, so two sessions that run side by side cannot disturb each other, and a resumed run
draws what the interrupted one would have drawn.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["generator", "seed_of"]


def seed_of(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called ``names`` under the run seed ``seed``.

    Names are length-prefixed before hashing, so ``("a", "bc")`` and ``("ab", "c")`` are different streams.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in (seed, *names):
        data = str(part).encode()
        digest.update(len(data).to_bytes(4, "little") + data)
    return int.from_bytes(digest.digest(), "little") >> 1


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A counter-based generator (Philox) for the stream called ``names``."""
    return np.random.Generator(np.random.Philox(key=seed_of(seed, *names)))
