"""Workers as actors of a Ray cluster: Ray places them, starts them and notices their deaths."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from askesis.errors import AskesisError, EngineError
from askesis.recipe import Recipe
from askesis.store import Group
from askesis.training.remote import Base, PopulationWorker, Scores, WorkerLost

__all__ = ["RayPool"]

_KNOCK_S = 5.0


class RayPool:
    """See :class:`askesis.training.remote.Pool`. Connects to Ray, or starts it, at once.

    Args:
        recipe: of the run; its section ``cluster`` says how many workers and what each may use.
        run_id: of the run.
        base: where workers start. It travels once, through Ray's own store of objects.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
    """

    def __init__(self, recipe: Recipe, run_id: str, base: Base) -> None:
        self._ray = _ray()
        section = self._section = recipe.cluster
        self._owns = not self._ray.is_initialized()
        if self._owns:
            _connect(self._ray, section.address, section.workers)
        self._make = self._ray.remote(num_cpus=section.cpus_per_worker, num_gpus=section.gpus_per_worker)(
            PopulationWorker
        )
        self._start = (recipe.model_dump(), run_id, self._ray.put(base))
        self._actors: dict[int, Any] = {}

    @property
    def size(self) -> int:
        """How many workers."""
        return self._section.workers

    async def start(self, place: int, history: Sequence[Scores]) -> None:
        """Put a new worker into a place; the one that was there is ended."""
        old = self._actors.pop(place, None)
        if old is not None:
            self._ray.kill(old)
        self._actors[place] = self._make.remote(*self._start, history)

    async def evaluate(self, place: int, step: int, first: int, count: int) -> list[list[Group]]:
        """See :class:`PopulationWorker`. Raises WorkerLost."""
        played: list[list[Group]] = await self._result(self._actors[place].evaluate.remote(step, first, count))
        return played

    async def tell(self, place: int, scores: Scores) -> str:
        """See :class:`PopulationWorker`. Raises WorkerLost."""
        found: str = await self._result(self._actors[place].tell.remote(scores))
        return found

    async def close(self) -> None:
        """End the workers, and Ray too if it was started here."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        if self._owns:
            await asyncio.to_thread(self._ray.shutdown)

    async def _result(self, reference: Any) -> Any:
        """What a call comes to. An error of ours is raised as it is; a worker that is gone is WorkerLost."""
        errors = self._ray.exceptions
        try:
            return await asyncio.wait_for(asyncio.wrap_future(reference.future()), self._section.timeout_s)
        except TimeoutError:
            raise WorkerLost(cause=f"no answer within cluster.timeout_s = {self._section.timeout_s:g} s") from None
        except errors.ActorDiedError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, AskesisError):
                raise cause from None
            raise WorkerLost(cause=_first_line(error)) from None
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            raise WorkerLost(cause=_first_line(error)) from None
        except errors.RayTaskError as error:
            raise _ours(error) from None


def _ours(error: Any) -> Exception:
    """The error that a worker raised."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, AskesisError):
        return cause
    return EngineError("a worker failed", got=_first_line(error), next_step="see the traceback in Ray's logs")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise AskesisError(
            "Ray is not installed", where="cluster.kind=ray", next_step="pip install 'askesis[ray]'"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Ray waits minutes for an address where nobody answers. Raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def _connect(ray: Any, address: str, workers: int) -> None:
    """Join a cluster, or start one that only this machine can reach."""
    try:
        if address:
            _knock(address)
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    except (OSError, RuntimeError, ValueError) as error:
        raise AskesisError(
            "no Ray cluster can be reached",
            where=f"cluster.address={address or '(none)'}",
            got=_first_line(error),
            next_step="start one by `ray start --head`, or leave cluster.address empty to start one on this machine",
        ) from error
