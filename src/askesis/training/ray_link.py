"""Ray, joined or started: actors, deadlines, and what its errors mean. For everything that has workers in Ray."""

from __future__ import annotations

import asyncio
import math
import os
import socket
from contextlib import suppress
from typing import Any

from askesis.errors import AskesisError, EngineError
from askesis.recipe.places import ClusterSection

__all__ = ["RayLink", "WorkerLost", "first_line"]

_KNOCK_S = 5.0
_SHOWN = 300
"""Characters of what Ray says of a death."""


class WorkerLost(Exception):
    """A worker's process has ended, or has not answered in time. Internal: it is replaced."""

    def __init__(self, *, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class RayLink:
    """This process's connection to Ray, made at once. In an actor it is the actor's own.

    Args:
        section: says where the cluster is, and how long an answer may take. A cluster that is started here has as many
            processors as all its workers ask for.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
    """

    def __init__(self, section: ClusterSection) -> None:
        self._ray = _ray(alone=not section.address)
        self._timeout_s = section.timeout_s
        self._owns = not self._ray.is_initialized()
        if self._owns:
            each = section.cpus_per_worker + section.environment_workers * section.cpus_per_environment_worker
            _connect(self._ray, section.address, max(1, math.ceil(section.workers * each)))

    @property
    def ray(self) -> Any:
        """The module, connected."""
        return self._ray

    def actor(self, kind: type, *, cpus: float, gpus: float = 0.0, concurrency: int | None = None) -> Any:
        """``kind`` as a class of actors; ``concurrency`` calls of one may be under way at once."""
        options = {} if concurrency is None else {"max_concurrency": concurrency}
        return self._ray.remote(num_cpus=cpus, num_gpus=gpus, **options)(kind)

    def put(self, value: Any) -> Any:
        """A reference to ``value`` in Ray's store of objects."""
        return self._ray.put(value)

    def kill(self, actor: Any) -> None:
        """End it, whatever it does."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)

    async def result(self, reference: Any, timeout_s: float | None = None, *, foreign: bool = False) -> Any:
        """What a call comes to. If nobody waits any more, the call is cancelled.

        Raises:
            WorkerLost: the worker is gone, or has not answered within ``timeout_s`` (``cluster.timeout_s`` unless
                given).
            AskesisError: the worker raised it. What else it raised is an EngineError, or comes as it is when
                ``foreign`` code was called.
        """
        limit, rule = (self._timeout_s, " (cluster.timeout_s)") if timeout_s is None else (timeout_s, "")
        errors = self._ray.exceptions
        try:
            return await asyncio.wait_for(asyncio.wrap_future(reference.future()), limit)
        except errors.RayTaskError as error:  # before TimeoutError: it also is what the worker raised
            raise _raised(error, foreign=foreign) from error
        except TimeoutError:
            raise WorkerLost(cause=f"no answer within {limit:g} s{rule}") from None
        except asyncio.CancelledError:
            with suppress(errors.RayError, ValueError):
                self._ray.cancel(reference)
            raise
        except errors.ActorDiedError as error:
            made = error.args[0] if error.args else None
            if isinstance(made, errors.RayTaskError):  # while it was made
                raise _raised(made, foreign=foreign) from error
            raise WorkerLost(cause=_death(error)) from None
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            raise WorkerLost(cause=first_line(error)) from None

    async def close(self) -> None:
        """End Ray too, if it was started here."""
        if self._owns:
            await asyncio.to_thread(self._ray.shutdown)


def _raised(error: Any, *, foreign: bool) -> Exception:
    """What a worker's own code raised."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, AskesisError) or (foreign and isinstance(cause, Exception)):
        return cause
    got = f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else first_line(error)
    return EngineError("a worker failed", got=got, next_step="see the traceback in Ray's logs")


def _death(error: BaseException) -> str:
    """Why an actor is dead, without what Ray says of every death, and who it was."""
    lines = [line.strip() for line in str(error).splitlines()[1:]]
    told = " ".join(line for line in lines if line and not line.partition(":")[0].isidentifier())
    return told[:_SHOWN] or first_line(error)


def first_line(error: BaseException) -> str:
    """Of its message; its type's name when there is none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _ray(*, alone: bool) -> Any:
    """The module. ``alone``: for a Ray of our own, which only this machine is to reach."""
    if alone:
        # On Linux Ray takes 127.0.0.1 for the machine's address in the network, and listens everywhere. Told that no
        # cluster is wanted, as on desktops, it listens on loopback. Read when it is imported.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise AskesisError(
            "Ray is not installed", where="section cluster", next_step="pip install 'askesis[ray]'"
        ) from error
    return ray


def _knock(address: str) -> None:
    """Ray waits minutes for an address where nobody answers. Raises OSError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def _connect(ray: Any, address: str, cpus: int) -> None:
    """Join a cluster, or start one that only this machine can reach."""
    try:
        if address:
            _knock(address)
            ray.init(address=address, log_to_driver=False)
        else:
            ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    except (OSError, RuntimeError, ValueError) as error:
        raise AskesisError(
            "no Ray cluster can be reached",
            where=f"cluster.address={address or '(none)'}",
            got=first_line(error),
            next_step="start one by `ray start --head`, or leave cluster.address empty to start one on this machine",
        ) from error
