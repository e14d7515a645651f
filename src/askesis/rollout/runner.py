"""Groups of sessions, all at once, on asyncio."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from askesis.agents.harness import Harness
from askesis.clock import Clock, SystemClock
from askesis.environments.protocol import World
from askesis.gateway import Gateway, Session
from askesis.rollout.boundary import FOREIGN_CODE
from askesis.rollout.program import ProgramHost, open_programs
from askesis.rollout.session import Outcome, run_session
from askesis.rollout.states import StateEvaluator, StatePass
from askesis.rollout.watchdog import Watchdog
from askesis.store import Group, Member
from askesis.streams import seed_of
from askesis.trace import Budgets, Task

__all__ = ["GroupSpec", "MissingMembers", "RolloutRunner", "RolloutSettings", "Table", "usable_members"]

MissingMembers = Literal["use_rest", "drop_group", "retry"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutSettings:
    """Limits of a rollout; see :class:`askesis.recipe.RolloutSection` for units and reasons."""

    max_concurrent: int = 1024
    call_timeout_s: float = 30.0
    missing_members: MissingMembers = "use_rest"
    budgets: Budgets = field(default_factory=Budgets)
    """Of each session; a task's own budgets come first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSpec:
    """A group to be run: ``size`` sessions on one task. ``seed`` is the root of their streams; ``variant`` says which
    weights they sample from, when the engine has several.
    """

    group_id: str
    run_id: str
    purpose: str
    step: int
    task: Task
    size: int
    seed: int
    variant: int = 0


class RolloutRunner:
    """Runs groups in one world through one gateway.

    Args:
        world: where they are played.
        gateway: to the policy.
        settings: limits.
        harness: leads the policy.
        clock: of the sessions; the machine's by default.
        states: how the states of finished sessions are scored; None: not at all. The world must have an answer mode.
        states_gateway: to the model that answers from states, where it is not the policy.
    """

    def __init__(
        self,
        world: World,
        gateway: Gateway,
        settings: RolloutSettings,
        *,
        harness: Harness | None = None,
        clock: Clock | None = None,
        states: StateEvaluator | None = None,
        states_gateway: Gateway | None = None,
    ) -> None:
        self._world = world
        self._gateway = gateway
        self._settings = settings
        self._harness = harness or Harness()
        self._clock = clock or SystemClock()
        self._states: StatePass | None = None
        if states is not None and world.answer_mode is not None:
            self._states = StatePass(world.answer_mode, states_gateway or gateway, states, self._clock)

    async def run(
        self,
        specs: Sequence[GroupSpec],
        *,
        policy_version: int,
        on_session: Callable[[Outcome], None] | None = None,
    ) -> list[Group]:
        """Run all groups side by side; one Group per spec, in order. A failed session is a member with its cause."""
        async with self.open(on_session=on_session) as table:
            groups = list(await asyncio.gather(*(table.play(spec, policy_version) for spec in specs)))
            return await table.score_states(groups)

    @asynccontextmanager
    async def open(self, *, on_session: Callable[[Outcome], None] | None = None) -> AsyncIterator[Table]:
        """In this block groups may be begun at any time; all must have ended when it is left."""
        # Twice the deadline of a call: a busy loop is not a blocked one.
        with _old_objects_at_rest():
            async with (
                Watchdog(2 * self._settings.call_timeout_s, FOREIGN_CODE),
                open_programs(self._world, self._gateway) as programs,
            ):
                yield Table(self, programs, on_session)

    def _session(self, spec: GroupSpec, index: int, policy_version: int) -> Session:
        own, general = spec.task.budgets, self._settings.budgets
        return Session(
            id=f"{spec.group_id}/{index}",
            task=spec.task,
            group_id=spec.group_id,
            member_index=index,
            seed=seed_of(spec.seed, "session", index),
            policy_version=policy_version,
            variant=spec.variant,
            budgets=Budgets(
                turns=general.turns if own.turns is None else own.turns,
                tokens=general.tokens if own.tokens is None else own.tokens,
                seconds=general.seconds if own.seconds is None else own.seconds,
            ),
            clock=self._clock,
        )


class Table:
    """Where groups are played while :meth:`RolloutRunner.open` is entered. They share one limit of open sessions."""

    def __init__(
        self, runner: RolloutRunner, programs: ProgramHost | None, on_session: Callable[[Outcome], None] | None
    ) -> None:
        self._runner, self._programs, self._on_session = runner, programs, on_session
        self._gate = asyncio.Semaphore(runner._settings.max_concurrent)

    async def play(self, spec: GroupSpec, policy_version: int) -> Group:
        """One group, its states not scored yet. A failed session is a member with its cause."""
        members = list(await asyncio.gather(*(self._member(spec, i, policy_version) for i in range(spec.size))))
        if self._runner._settings.missing_members == "retry":
            failed = [m.member_index for m in members if m.verdict.reward is None]
            members += await asyncio.gather(*(self._member(spec, spec.size + i, policy_version) for i in failed))
        return Group(
            group_id=spec.group_id,
            run_id=spec.run_id,
            purpose=spec.purpose,
            step=spec.step,
            task=spec.task,
            members=tuple(members),
        )

    async def score_states(self, groups: list[Group]) -> list[Group]:
        """The groups with their states scored, if that is wanted."""
        states = self._runner._states
        return (
            groups if states is None else await states.run(groups, max_concurrent=self._runner._settings.max_concurrent)
        )

    async def _member(self, spec: GroupSpec, index: int, policy_version: int) -> Member:
        runner = self._runner
        session = runner._session(spec, index, policy_version)
        async with self._gate:
            with runner._gateway.holding(session):
                outcome = await run_session(
                    runner._world,
                    runner._gateway,
                    session,
                    call_timeout_s=runner._settings.call_timeout_s,
                    harness=runner._harness,
                    programs=self._programs,
                )
        if self._on_session is not None:
            self._on_session(outcome)
        return Member(
            member_index=index,
            seed=outcome.session.seed,
            trace=outcome.trace,
            verdict=outcome.verdict,
            duration_s=outcome.duration_s,
            policy_version=policy_version,
        )


@contextmanager
def _old_objects_at_rest() -> Iterator[None]:
    """Garbage collections in this block leave alone what was there before: sessions make many objects, and each full
    collection would look at all of the model's and the libraries' besides.
    """
    if gc.get_freeze_count():  # somebody else has arranged it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def usable_members(group: Group, policy: MissingMembers, *, size: int) -> tuple[Member, ...]:
    """The members to train on: those with a reward; none if the policy drops the group or fewer than two are left.

    ``size`` is how many members the group was meant to have; one that was meant to have a single member keeps it.
    """
    judged = tuple(m for m in group.members if m.verdict.reward is not None)
    if policy == "drop_group" and len(judged) < len(group.members):
        return ()
    return judged if len(judged) >= min(2, size) else ()
