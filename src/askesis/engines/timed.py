"""The embedded engine on virtual time: sampling takes as long as is said, and no thread is in it.

So what is sampled when, and from which weights, is a function of the requests (:mod:`askesis.clock`).
"""

from __future__ import annotations

import asyncio

from askesis.engines.embedded import EmbeddedEngine
from askesis.metering import Activity

__all__ = ["TimedEngine"]


class TimedEngine(EmbeddedEngine):
    """Samples on the event loop. Calls join at the next token, of which each costs ``token_s`` for the whole batch."""

    token_s = 0.0

    def _start(self) -> None:
        if not self._busy:
            self._busy = True
            if self._meter is not None:
                self._meter.enter(Activity.SAMPLING)
            self._sampling = asyncio.get_running_loop().create_task(self._sample())

    async def _sample(self) -> None:
        while self._scheduler.busy and not self._closed:
            await asyncio.sleep(self.token_s)
            self._deliver(self._step())
        self._rest()
