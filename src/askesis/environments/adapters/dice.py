"""Private global randomness: libraries that draw from ``random`` and ``numpy.random`` cannot disturb each other."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from askesis.streams import seed_of

__all__ = ["Dice"]


class Dice:
    """One session's own state of the two global generators.

    Inside :meth:`rolling` the global generators are this session's; outside they are as if nothing had been drawn.
    Nothing may be awaited inside.
    """

    def __init__(self, seed: int) -> None:
        self._words = random.Random(seed_of(seed, "random")).getstate()
        self._numbers = np.random.RandomState(seed_of(seed, "numpy") % 2**32).get_state()

    @contextmanager
    def rolling(self) -> Iterator[None]:
        """Lend the global generators to this session."""
        words, numbers = random.getstate(), np.random.get_state()
        random.setstate(self._words)
        np.random.set_state(self._numbers)
        try:
            yield
        finally:
            self._words, self._numbers = random.getstate(), np.random.get_state()
            random.setstate(words)
            np.random.set_state(numbers)
