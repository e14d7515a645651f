"""Ranks of a learner as actors of a Ray cluster: Ray places them, starts them and notices their deaths."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from askesis.errors import LearnerError
from askesis.learners.ranks.group import RankLost, Ranks, require_answers
from askesis.learners.ranks.process import answer_of
from askesis.learners.ranks.rank import Rank
from askesis.learners.ranks.wire import HEADER, Message, pack_message, unpack_message
from askesis.recipe.places import ClusterSection
from askesis.training.ray_link import RayLink, first_line

__all__ = ["RayRanks", "start_in_ray"]

T = TypeVar("T")


class _Actor:
    """A rank; requests and answers are the bytes that local ranks get over a socket."""

    def __init__(self) -> None:
        self._rank = Rank()

    def address(self) -> str:
        """Where the others reach it."""
        import ray

        return str(ray.util.get_node_ip_address())

    def answer(self, head: bytes, body: bytes) -> list[bytes]:
        """See :func:`answer_of`."""
        return pack_message(answer_of(self._rank, unpack_message(head, body)))


class RayRanks(Ranks):
    """Actors, each with a GPU where ``gpus`` says so. Connects to Ray, or starts it, at once.

    Raises:
        AskesisError: Ray is not installed, or no cluster is found.
        RankLost: the actors do not come up in time.
    """

    def __init__(self, section: ClusterSection, *, gpus: int) -> None:
        self.size, self.timeout_s = section.learner_ranks, section.timeout_s
        self._link = RayLink(section)
        self._ray = self._link.ray
        # In a Ray that was started here, processors are counted for those who play.
        make = self._link.actor(_Actor, cpus=1 if section.address else 0, gpus=gpus)
        self._actors = [make.remote() for _ in range(self.size)]
        self.host = self._wait([self._actors[0].address.remote()], str)[0]

    def call(self, requests: Sequence[Message]) -> list[Message]:
        """See :meth:`Ranks.call`."""
        parts = [pack_message(request) for request in requests]
        asked = [
            actor.answer.remote(head[HEADER.size :], body)
            for actor, (head, body) in zip(self._actors, parts, strict=True)
        ]
        return self._wait(asked, lambda parts: _answer(*parts))

    def close(self) -> None:
        """See :meth:`Ranks.close`. A Ray that was started here stays for what is started next, and ends with us."""
        for actor in self._actors:
            self._link.kill(actor)
        self._actors = []

    def _wait(self, references: Sequence[Any], read: Callable[[Any], T]) -> list[T]:
        """What the calls come to. The first that shows that the group is lost ends it: others may wait for it."""
        deadline, pending, found = time.monotonic() + self.timeout_s, list(references), dict[Any, T]()
        while pending:
            ready, pending = self._ray.wait(pending, timeout=max(deadline - time.monotonic(), 0.0))
            if not ready:
                raise RankLost(f"no answer within cluster.timeout_s = {self.timeout_s:g} s")
            for reference in ready:
                found[reference] = read(self._value(reference))
        return [found[reference] for reference in references]

    def _value(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            raise LearnerError("a rank of the learner failed", got=first_line(error)) from None
        except (errors.RayActorError, errors.WorkerCrashedError, errors.ObjectLostError) as error:
            raise RankLost(first_line(error)) from None


def _answer(head: bytes, body: bytes) -> Message:
    return require_answers([unpack_message(head[HEADER.size :], body)])[0]


def start_in_ray(section: ClusterSection, *, device: str, threads: int) -> RayRanks:
    """Ranks in Ray that have met. Raises RankLost, AskesisError."""
    ranks = RayRanks(section, gpus=int(device == "cuda"))
    try:
        ranks.meet(device=device, threads=threads)
    except BaseException:
        ranks.close()
        raise
    return ranks
