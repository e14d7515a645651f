"""Playing a world without a model: the sessions behind :func:`askesis.environments.check.check_environment`."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from askesis.clock import SystemClock
from askesis.environments.protocol import Done, Turn, World, validate_turn
from askesis.gateway.session import Session
from askesis.streams import seed_of
from askesis.trace.tree import Call, Trace, TraceBuilder
from askesis.trace.types import Budgets, Message, StopReason, Task, Verdict

__all__ = ["Bench", "Play", "trace_of"]

SPLITS = ("train", "held_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One played session. ``done`` is None when it was still open after the last allowed turn."""

    session: Session
    turns: tuple[Turn, ...]
    acts: tuple[Mapping[str, str], ...]
    done: Done | None

    @property
    def task(self) -> Task:
        """What was played."""
        return self.session.task

    @property
    def seats(self) -> tuple[str, ...]:
        """Who acted last."""
        return tuple(self.turns[-1].seats)

    @property
    def replies(self) -> tuple[str, ...]:
        """All that the policy said, in order."""
        return tuple(text for act in self.acts for text in act.values())

    def transcript(self) -> list[Any]:
        """Everything that was said, without the session's id."""
        turns = [{seat: [m.to_dict() for m in messages] for seat, messages in t.seats.items()} for t in self.turns]
        end = None if self.done is None else [self.done.stop.value, self.done.reason, dict(self.done.info)]
        return [turns, [dict(act) for act in self.acts], end]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A world, a policy and limits; every call has a deadline and every turn is validated."""

    world: World
    policy: Callable[[Sequence[Message]], Awaitable[str]]
    num_tasks: int
    seed: int
    max_turns: int
    call_timeout_s: float
    reward_range: tuple[float, float]
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def tasks(self) -> list[tuple[str, int, Task]]:
        """The sample: split, number and task."""
        sample = []
        for split in SPLITS:
            available = self.world.tasks.num_tasks(split)
            for index in range(self.num_tasks if available is None else min(self.num_tasks, available)):
                sample.append((split, index, self.world.tasks.task(split, index)))
        return sample

    def train_tasks(self) -> list[Task]:
        """The tasks of the sample that are played."""
        return [task for split, _, task in self.tasks() if split == "train"]

    def session(self, task: Task) -> Session:
        """A session with an id of its own; its seed depends on the task alone."""
        return Session(
            id=f"check-{next(self._numbers)}",
            task=task,
            group_id=task.key,
            member_index=0,
            seed=seed_of(self.seed, "check", task.key),
            policy_version=0,
            budgets=Budgets(turns=self.max_turns),
            clock=SystemClock(),
        )

    async def reset(self, session: Session) -> Turn:
        """Open a session."""
        async with asyncio.timeout(self.call_timeout_s):
            turn = validate_turn(await self.world.environment.reset(session), where="reset")
        assert isinstance(turn, Turn)  # validate_turn lets no Done through here
        return turn

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """One step."""
        async with asyncio.timeout(self.call_timeout_s):
            return validate_turn(await self.world.environment.step(session, acts))

    async def close(self, session: Session) -> None:
        """Close a session."""
        async with asyncio.timeout(self.call_timeout_s):
            await self.world.environment.close(session)

    async def play(self, task: Task, *, keep_open: bool = False) -> Play:
        """One session from reset to its end or the turn limit."""
        return (await self.play_interleaved([task], keep_open=keep_open))[0]

    async def play_interleaved(self, tasks: Sequence[Task], *, keep_open: bool = False) -> list[Play]:
        """All sessions at once, one turn of each in rotation."""
        sessions = [self.session(task) for task in tasks]
        try:
            games = [_Game(turns=[await self.reset(session)]) for session in sessions]
            for _ in range(self.max_turns):
                for session, game in zip(sessions, games, strict=True):
                    await self._advance(session, game)
        finally:
            if not keep_open:
                for session in sessions:
                    await self.close(session)
        return [
            Play(session=session, turns=tuple(game.turns), acts=tuple(game.acts), done=game.done)
            for session, game in zip(sessions, games, strict=True)
        ]

    async def _advance(self, session: Session, game: _Game) -> None:
        if game.done is not None:
            return
        acts = {}
        for seat, messages in game.turns[-1].seats.items():
            history = game.histories.setdefault(seat, [])
            history.extend(messages)
            acts[seat] = Message(role="assistant", content=await self.policy(history))
            history.append(acts[seat])
        game.acts.append({seat: act.content for seat, act in acts.items()})
        outcome = await self.step(session, acts)
        if isinstance(outcome, Done):
            game.done = outcome
        else:
            game.turns.append(outcome)

    async def score(self, play: Play) -> Verdict:
        """The evaluator's verdict on a played session."""
        return await self.score_trace(trace_of(play.task, play.replies), play.task)

    async def score_trace(self, trace: Trace, task: Task) -> Verdict:
        """The evaluator's verdict on a trace."""
        async with asyncio.timeout(self.call_timeout_s):
            return await self.world.evaluator.score(trace, task)


@dataclass
class _Game:
    turns: list[Turn]
    acts: list[Mapping[str, str]] = field(default_factory=list)
    histories: dict[str, list[Message]] = field(default_factory=dict)
    done: Done | None = None


def trace_of(task: Task, replies: Sequence[str]) -> Trace:
    """A trace whose calls replied with ``replies``. Its tokens are UTF-8 bytes: evaluators read the text."""
    builder = TraceBuilder()
    context = list(task.key.encode())
    for key, text in enumerate(replies):
        sampled = list(text.encode("utf-8", "surrogatepass")) or [0]
        reply = Message(role="assistant", content=text)
        zeros = np.zeros(len(sampled), np.float32)
        builder.record(Call(key=key, context=np.array(context), sampled=np.array(sampled), logprobs=zeros, reply=reply))
        context = [*context, *sampled, 10]
    return builder.finish(StopReason.TERMINATED)
