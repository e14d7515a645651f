"""Groups given out to workers one by one, to whoever is free, and again when a worker is lost.

A group belongs to one worker at a time, and only a worker's answer ends it: so every group comes back exactly once,
whatever is lost on the way. Which worker played it leaves no trace, since a group's streams are named by its spec.
"""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from askesis.errors import AskesisError, EngineError
from askesis.rollout import GroupSpec
from askesis.store import Group
from askesis.training.published import Published
from askesis.training.ray_link import WorkerLost

__all__ = ["TRIES", "Dispatcher", "Played", "Pool"]

TRIES = 3
"""Workers that may be lost over one group, or one after the other while they start, before the run stops."""
_RECENT = 50
_FIRST_S, _LEAST_S = 15.0, 5.0
"""Usual time of a group when none is known, and the least that is taken for it."""
_PAUSE_S = 60.0


class Played(NamedTuple):
    """What a worker answers with: the group, and what else it has to say, for the log."""

    group: Group
    notes: tuple[str, ...] = ()


class Pool(Protocol):
    """Workers in places 0 to ``size`` - 1."""

    @property
    def size(self) -> int:
        """How many places there are."""
        ...

    async def start(self, place: int) -> str:
        """Put a new worker into a place, ending the one that was there; the hash of what it holds beside the weights.

        Raises WorkerLost when it does not come up.
        """
        ...

    async def load(self, place: int, weights: Published) -> str:
        """Have it sample from ``weights``, which it does between groups; the hash of what it then holds.

        Raises WorkerLost.
        """
        ...

    async def play(self, place: int, spec: GroupSpec, version: int) -> Played:
        """Have it play a group by the weights of ``version``. Raises WorkerLost."""
        ...

    async def close(self) -> None:
        """End the workers."""
        ...


@dataclass(slots=True, eq=False)
class _Worker:
    place: int
    version: int | None = None
    """Of the weights that it holds; None while it takes others."""
    in_play: int = 0
    is_lost: bool = False


class _Turn(NamedTuple):
    """A group that waits for a worker."""

    purpose: str
    given: asyncio.Future[tuple[_Worker, Published]]


class Dispatcher:
    """Plays groups by the workers of a pool. Use it from one event loop; ``play`` may be called many times at once.

    Args:
        pool: the workers.
        wanted: the weights that groups of a purpose are to be sampled from, at this moment.
        frozen: hash that every worker must answer with when it starts.
        per_worker: groups that one worker plays side by side.
        warn: told of every loss, and of every worker that takes unusually long.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        wanted: Callable[[str], Published],
        frozen: str,
        per_worker: int,
        warn: Callable[[str], None],
    ) -> None:
        self._pool, self._wanted, self._frozen = pool, wanted, frozen
        self._per_worker, self._warn = per_worker, warn
        self._workers: dict[int, _Worker] = {}
        self._waiting: deque[_Turn] = deque()
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._failure: AskesisError | None = None
        self._seconds: deque[float] = deque(maxlen=_RECENT)
        self._num_in_play = self._holds = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self.lost = 0
        """Workers that were lost so far."""
        self.repeated = 0
        """Groups that had to be played again."""

    async def play(self, spec: GroupSpec) -> Group:
        """Play one group.

        Raises:
            EngineError: workers were lost over this group again and again, or one has other weights than the run.
            AskesisError: what a worker raised.
        """
        causes: list[str] = []
        while True:
            worker, weights = await self._turn(spec.purpose, again=bool(causes))
            try:
                return await self._by(worker, weights, spec)
            except WorkerLost as lost:
                self.repeated += 1
                if self._lose(worker, f"{lost.cause}; it was playing {spec.group_id}"):
                    causes.append(lost.cause)  # a loss counts once, for the group that it is noticed by
                if len(causes) == TRIES:
                    raise EngineError(
                        f"{TRIES} workers in a row were lost over the same group",
                        where=f"worker {worker.place}, group {spec.group_id}, task {spec.task.key}",
                        got=causes[-1],
                        next_step="look at Ray's logs for the cause, often memory; then start the same command again",
                    ) from lost
            finally:
                self._release(worker)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Nothing is in play in this block: what was ends before, and what is asked for waits until after."""
        self._holds += 1
        try:
            await self._quiet.wait()
            yield
        finally:
            self._holds -= 1
            self._hand_out()

    async def close(self) -> None:
        """End the workers."""
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        await self._pool.close()

    async def _turn(self, purpose: str, *, again: bool) -> tuple[_Worker, Published]:
        """A worker that is free, and the weights that it must have. What is played again comes first."""
        if self._failure is not None:
            raise self._failure
        for place in range(self._pool.size):
            if place not in self._workers and place not in self._starting:
                self._starting[place] = asyncio.create_task(self._start(place))
        turn = _Turn(purpose, asyncio.get_running_loop().create_future())
        if again:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        self._hand_out()
        try:
            return await turn.given
        except asyncio.CancelledError:
            if turn.given.done() and not turn.given.cancelled() and turn.given.exception() is None:
                self._release(turn.given.result()[0])  # it came in the moment of the end
            raise

    def _release(self, worker: _Worker) -> None:
        worker.in_play -= 1
        self._num_in_play -= 1
        if not self._num_in_play:
            self._quiet.set()
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and not self._holds:
            turn = self._waiting[0]
            if not turn.given.done():
                weights = self._wanted(turn.purpose)
                worker = self._choose(weights.version)
                if worker is None:
                    return
                worker.in_play += 1
                self._num_in_play += 1
                self._quiet.clear()
                if worker.version != weights.version:
                    worker.version = None
                turn.given.set_result((worker, weights))
            self._waiting.popleft()

    def _choose(self, version: int) -> _Worker | None:
        """The one with the least to do; weights are changed only in a worker that does nothing."""
        fit = [
            worker
            for worker in self._workers.values()
            if worker.in_play == 0 or (worker.version == version and worker.in_play < self._per_worker)
        ]
        return min(fit, key=lambda w: (w.in_play, w.version != version, w.place), default=None)

    async def _by(self, worker: _Worker, weights: Published, spec: GroupSpec) -> Group:
        if worker.version is None:
            self._require(worker)
            found = await self._pool.load(worker.place, weights)
            if found != weights.digest:
                raise _wrong(worker, found, weights)
            worker.version = weights.version
            self._hand_out()
        self._require(worker)
        loop = asyncio.get_running_loop()
        began = loop.time()
        usual_s = statistics.median(self._seconds) if self._seconds else None
        limit_s = 2 * (_FIRST_S if usual_s is None else max(usual_s, _LEAST_S))
        watch = loop.call_later(limit_s, self._tell_slow, worker, spec, limit_s)
        try:
            played = await self._pool.play(worker.place, spec, weights.version)
        finally:
            watch.cancel()
        self._seconds.append(loop.time() - began)
        for note in played.notes:
            self._warn(f"worker {worker.place}: {note}")
        group = played.group
        versions = {member.policy_version for member in group.members}
        if group.group_id != spec.group_id or versions != {weights.version}:
            raise EngineError(
                "a worker played something else than it was asked for",
                where=f"worker {worker.place}",
                got=f"{group.group_id}, version {sorted(versions)}",
                expected=f"{spec.group_id}, version {weights.version}",
            )
        return group

    def _require(self, worker: _Worker) -> None:
        """Its place may have got another worker meanwhile."""
        if worker.is_lost:
            raise WorkerLost(cause="it was lost over another group")

    def _tell_slow(self, worker: _Worker, spec: GroupSpec, seconds: float) -> None:
        self._warn(f"worker {worker.place} has been playing {spec.group_id} for {seconds:.0f} s, unusually long")

    def _lose(self, worker: _Worker, cause: str) -> bool:
        """Put another one into its place, unless somebody has seen to it."""
        if worker.is_lost:
            return False
        worker.is_lost = True
        self.lost += 1
        del self._workers[worker.place]
        self._warn(f"worker {worker.place} was lost and is replaced: {cause}")
        self._starting[worker.place] = asyncio.create_task(self._start(worker.place))
        return True

    async def _start(self, place: int) -> None:
        """Put a worker into a place, and try until one comes up. Without any, three losses stop the run."""
        for number in range(1, 1 << 62):
            try:
                found = await self._pool.start(place)
                break
            except WorkerLost as lost:
                self.lost += 1
                self._warn(f"worker {place} was lost while it started: {lost.cause}")
                if number >= TRIES and not self._workers:
                    self._fail(_no_start(place, lost))
                    return
                await asyncio.sleep(min(2.0 ** (number - 1), _PAUSE_S))
            except Exception as error:  # whatever it is, those who wait must be told
                self._fail(error if isinstance(error, AskesisError) else _broken(place, error))
                return
        if found != self._frozen:
            self._fail(_another_model(place, found, self._frozen))
            return
        del self._starting[place]
        self._workers[place] = _Worker(place)
        self._hand_out()

    def _fail(self, error: AskesisError) -> None:
        """Nobody may wait for what does not come."""
        self._failure = error
        for turn in self._waiting:
            if not turn.given.done():
                turn.given.set_exception(error)
        self._waiting.clear()


def _wrong(worker: _Worker, found: str, weights: Published) -> EngineError:
    return EngineError(
        "a worker does not hold the run's weights",
        where=f"worker {worker.place}, version {weights.version}",
        got=found[:12],
        expected=weights.digest[:12],
        next_step="all workers need the same versions of torch and askesis, and the same policy.dtype",
    )


def _another_model(place: int, found: str, expected: str) -> EngineError:
    return EngineError(
        "a worker has loaded another model than the run's",
        where=f"worker {place}",
        got=found[:12],
        expected=expected[:12],
        next_step="policy.name must lead to the same files on every machine of the cluster",
    )


def _broken(place: int, error: Exception) -> EngineError:
    return EngineError("a worker cannot be started", where=f"worker {place}", got=f"{type(error).__name__}: {error}")


def _no_start(place: int, lost: WorkerLost) -> EngineError:
    return EngineError(
        f"no worker comes up, {TRIES} in a row were lost while they started",
        where=f"worker {place}",
        got=lost.cause,
        next_step="look at Ray's logs and `ray status`: does the cluster have cluster.cpus_per_worker and "
        "cluster.gpus_per_worker free for each of cluster.workers?",
    )
