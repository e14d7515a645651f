"""Which groups may be begun, and which are used, when sampling and learning overlap: decisions without side effects.

``L`` is the learner's version when a group is used, ``w`` the oldest version that sampled a token of it; ``L - w`` is
its staleness. A step uses G groups, the oldest first, and ``L`` rises by at most one per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Batch", "Schedule", "Waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A complete group that no step has used."""

    group_id: str
    version: int
    """The oldest that sampled a token of it."""
    teaches: bool = True
    """False: its rewards are all equal, and the algorithm wants others in its place."""


class Batch(NamedTuple):
    """What a step consumes, by name."""

    used: tuple[str, ...]
    """Learned from, the oldest first."""
    stale: tuple[str, ...]
    """Too old to be learned from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The rules of an asynchronous run; see :class:`askesis.recipe.AsynchronousSection`."""

    groups_per_step: int
    max_staleness: int
    admission: Literal["strict", "bounded", "corrected"]
    max_ahead: int
    """Groups in play or waiting at most."""
    max_constant: int = 0
    """Groups that teach nothing, in place of which a step waits for others; with more it goes on with what it has. 0:
    all groups are used.
    """

    def is_stale(self, version: int, learner: int) -> bool:
        """A group of this version is not learned from at version ``learner``."""
        return self.admission == "strict" and self.is_over(version, learner)

    def is_over(self, version: int, learner: int) -> bool:
        """A group of this version is older than the bound."""
        return learner - version > self.max_staleness

    def room(
        self,
        waiting: Sequence[Waiting],
        in_play: int,
        *,
        learner: int,
        sampler: int,
        recorded: int,
        steps_left: int,
    ) -> int:
        """How many groups may be begun now, at the sampler's version.

        A group that is begun now is used after all that were begun before. With N of those, the steps at the versions
        ``learner`` to ``sampler + max_staleness`` must suffice for N + 1 groups: G each. Beyond ``max_ahead``, and what
        the remaining steps can use, nothing is begun either.

        Args:
            waiting: complete groups.
            in_play: groups that have been begun and are not complete.
            learner: version at which the next batch is used.
            sampler: version that samples now.
            recorded: steps to come whose groups are known already, after a restart.
            steps_left: of the run, the recorded ones included.
        """
        size = self.groups_per_step
        unused = in_play + sum(self._counts(group, learner) for group in waiting)
        ahead = unused + size * recorded
        in_time = size * (sampler + self.max_staleness - learner + 1)
        return max(0, min(in_time - ahead, self.max_ahead - unused, size * steps_left - ahead))

    def choose(self, waiting: Sequence[Waiting], in_play: Sequence[int], *, learner: int) -> Batch | None:
        """What a step consumes at version ``learner``; None: it must wait for more.

        Args:
            waiting: complete groups, the oldest first.
            in_play: versions at which the groups that are not complete were begun.
            learner: present version.
        """
        size = self.groups_per_step
        stale = [group for group in waiting if self.is_stale(group.version, learner)]
        fresh = [group for group in waiting if not self.is_stale(group.version, learner)]
        constant = [group for group in fresh if not self._counts(group, learner)]
        teaching = [group for group in fresh if self._counts(group, learner)]
        used, rest = teaching[:size], teaching[size:]
        if len(used) < size and (not self.max_constant or len(constant) < self.max_constant):
            return None
        if self.admission == "bounded" and not self._in_time([*(g.version for g in rest), *in_play], learner + 1):
            return None
        return Batch(used=tuple(g.group_id for g in (*used, *constant)), stale=tuple(g.group_id for g in stale))

    def _counts(self, group: Waiting, learner: int) -> bool:
        """It will take a place in a batch."""
        return not self.is_stale(group.version, learner) and (group.teaches or not self.max_constant)

    def _in_time(self, versions: Sequence[int], learner: int) -> bool:
        """All these groups can still be used within the bound, by batches from version ``learner`` on."""
        return all(
            number <= self.groups_per_step * (version + self.max_staleness - learner + 1)
            for number, version in enumerate(sorted(versions), 1)
        )
