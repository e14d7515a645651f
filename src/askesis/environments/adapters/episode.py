"""One play of one of our worlds by somebody outside: what the adapters outward have in common."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from askesis.clock import SystemClock
from askesis.environments.protocol import Done, ToolResult, Turn, World, validate_turn
from askesis.errors import EnvironmentFault
from askesis.gateway.session import Session
from askesis.trace.tree import Call, TraceBuilder
from askesis.trace.types import Budgets, Message, StopReason, Task, ToolCall, Verdict

__all__ = ["Episode"]

_NUMBERS = itertools.count()


class Episode:
    """Plays ``task`` in ``world`` once: :meth:`begin`, then :meth:`act` until it returns a Done, then :meth:`judge`.

    The trace that is judged holds what was said; its tokens are UTF-8 bytes, for nothing is trained from it here.
    """

    def __init__(self, world: World, task: Task, *, seed: int = 0) -> None:
        self._world = world
        self.session = Session(
            id=f"episode-{next(_NUMBERS)}",
            task=task,
            group_id=task.key,
            member_index=0,
            seed=seed,
            policy_version=0,
            budgets=Budgets(),
            clock=SystemClock(),
        )
        self._replies: list[Message] = []
        self._events: list[Mapping[str, Any]] = []
        self.done: Done | None = None
        """How it ended; None while it goes on."""

    async def begin(self) -> Turn:
        """The first messages."""
        turn = validate_turn(await self._world.environment.reset(self.session), where="reset")
        assert isinstance(turn, Turn)  # validate_turn lets no Done through here
        self._note(turn)
        return turn

    async def act(self, acts: Mapping[str, str]) -> Turn | Done:
        """Say something in each seat that must act. EnvironmentFault after the end."""
        messages = {seat: Message(role="assistant", content=text) for seat, text in acts.items()}
        if self.done is not None:
            raise EnvironmentFault("the episode is over", where=f"task {self.session.task.key}", next_step="reset")
        self._replies.extend(messages.values())
        outcome = validate_turn(await self._world.environment.step(self.session, messages))
        self._note(outcome)
        if isinstance(outcome, Done):
            self.done = outcome
        return outcome

    async def call_tool(self, seat: str, name: str, arguments: str) -> ToolResult:
        """Run a tool of the world; ``arguments`` is JSON text."""
        call = ToolCall(id=f"call-{len(self._events)}", name=name, arguments=arguments)
        result = await self._world.environment.call_tool(self.session, seat, call)
        self._events.append({"event": "tool_call", "seat": seat, "tool": name[:200], "is_error": result.is_error})
        return result

    async def judge(self, *, stop: StopReason = StopReason.CANCELLED) -> Verdict:
        """The evaluator's verdict on all that was said; ``stop`` is how it ended if the world did not end it."""
        builder = TraceBuilder()
        context = np.frombuffer(self.session.task.key.encode(), np.uint8).astype(np.uint32)
        for key, reply in enumerate(self._replies):
            ids = np.frombuffer(reply.content.encode("utf-8", "surrogatepass") or b"\0", np.uint8).astype(np.uint32)
            builder.record(
                Call(key=key, context=context, sampled=ids, logprobs=np.zeros(len(ids), np.float32), reply=reply)
            )
            context = np.concatenate([context, ids, [10]])
        trace = builder.finish(self.done.stop if self.done else stop, events=self._events)
        return await self._world.evaluator.score(trace, self.session.task)

    async def close(self) -> None:
        """Free what the world holds for it."""
        await self._world.environment.close(self.session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _note(self, outcome: Turn | Done) -> None:
        if isinstance(outcome, Done):
            self._events.append({"event": "done", "reason": outcome.reason, "info": dict(outcome.info)})
        elif outcome.info:
            self._events.append({"event": "turn", "info": dict(outcome.info)})
