"""A second, light pass over finished sessions: how well could the task be answered from each of their states?

Nothing of the environment is called. Answers fork from the recorded token tree, so a state is the very ids that the
policy was shown, and engines find its keys and values again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from askesis.clock import Clock
from askesis.engines import Sampling
from askesis.environments.protocol import AnswerMode, State
from askesis.errors import AskesisError
from askesis.gateway import Endpoint, Gateway, Session
from askesis.rollout.boundary import failure_of
from askesis.store import Group, Member
from askesis.streams import generator
from askesis.trace import Budgets, FailureOrigin, Fork, Message, StateScore, Trace, Verdict, VerdictStatus

__all__ = ["ANSWER", "StateEvaluator", "StateJudge", "StatePass"]

StateJudge = Literal["policy", "frozen", "oracle", "random"]
"""Who says what a state is worth: the policy that is trained, or the one it started from, by answers; the world, which
knows; chance, for a control.
"""

ANSWER = "answer"
"""Mode of an answer that the policy itself drew. Those of another model are called by the judge's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StateEvaluator:
    """How states are scored.

    Args:
        judge: who scores them.
        answers: drawn from each state; a state's value is the mean of their scores.
        sampling: how an answer is drawn.
        request: what is asked in a state; None: the world's own words, empty: nothing.
    """

    judge: StateJudge
    answers: int
    sampling: Sampling
    request: str | None = None


class StatePass:
    """Scores the states of sessions in one world.

    Args:
        mode: the world's answer mode.
        gateway: opens endpoints to the model that answers.
        evaluator: how.
        clock: of the sessions.
    """

    def __init__(self, mode: AnswerMode, gateway: Gateway, evaluator: StateEvaluator, clock: Clock) -> None:
        self._mode, self._gateway, self._evaluator, self._clock = mode, gateway, evaluator, clock

    async def run(self, groups: Sequence[Group], *, max_concurrent: int) -> list[Group]:
        """The groups with the states of all judged sessions scored.

        A session whose states cannot be scored is no longer judged: what is not known is not 0.
        """
        gate = asyncio.Semaphore(max_concurrent)

        async def member(group: Group, one: Member) -> Member:
            if one.verdict.status is not VerdictStatus.OK:
                return one
            async with gate:
                return await self._score(group, one)

        flat = [(group, one) for group in groups for one in group.members]
        scored = iter(await asyncio.gather(*(member(group, one) for group, one in flat)))
        return [replace(group, members=tuple(next(scored) for _ in group.members)) for group in groups]

    async def _score(self, group: Group, member: Member) -> Member:
        session = Session(
            id=group.trace_id(member),
            task=group.task,
            group_id=group.group_id,
            member_index=member.member_index,
            seed=member.seed,
            policy_version=member.policy_version,
            budgets=Budgets(),  # answers are no part of what the session may spend
            clock=self._clock,
        )
        trace = member.trace
        try:
            states = self._mode.states(trace)
            if self._evaluator.judge in ("policy", "frozen"):
                trace, scores = await self._answered(session, trace, states)
            else:
                scores = [self._known(session, trace, state) for state in states]
        except Exception as error:  # a world's code or a full context: it costs this session, never the run
            origin = FailureOrigin.ENGINE if isinstance(error, AskesisError) else FailureOrigin.EVALUATOR
            failed = Verdict(
                status=VerdictStatus.ERROR, evaluator=member.verdict.evaluator, error=failure_of(error, origin)
            )
            return replace(member, verdict=failed)
        return replace(member, trace=trace, verdict=replace(member.verdict, states=tuple(scores)))

    async def _answered(
        self, session: Session, trace: Trace, states: Sequence[State]
    ) -> tuple[Trace, list[StateScore]]:
        """Values by answers, and the trace with these as forks."""
        count = self._evaluator.answers
        with self._gateway.holding(session):
            endpoint = self._gateway.reopen(session, trace)
            calls = [
                self._answer(endpoint, state, number=place * count + copy)
                for place, state in enumerate(states)
                for copy in range(count)
            ]
            # All come to an end first: which failure counts must not depend on who was faster.
            drawn = await asyncio.gather(*calls, return_exceptions=True)
            forked = endpoint.close(trace.stop, failure=trace.failure)
        found = []
        for answer in drawn:
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer)
        return forked, [
            self._scored(state, trace, session, tuple(found[place * count : (place + 1) * count]))
            for place, state in enumerate(states)
        ]

    async def _answer(self, endpoint: Endpoint, state: State, *, number: int) -> tuple[int, float]:
        """Key and score of one answer."""
        request = self._mode.request if self._evaluator.request is None else self._evaluator.request
        mode = ANSWER if self._evaluator.judge == "policy" else self._evaluator.judge
        reply = await endpoint.chat(
            _asking(endpoint.messages_of(state.at), request),
            sampling=self._evaluator.sampling,
            stop=self._mode.stop,
            seed=number,
            prefill=self._mode.prefill,
            fork=Fork(state=state.index, mode=mode),
        )
        return reply.key, self._mode.score(reply.message.content, endpoint.session.task)

    def _scored(
        self, state: State, trace: Trace, session: Session, answers: tuple[tuple[int, float], ...]
    ) -> StateScore:
        return StateScore(
            state=state.index,
            after=state.after,
            value=sum(score for _, score in answers) / len(answers),
            answers=answers,
            truth=self._mode.truth(state, trace, session.task),
        )

    def _known(self, session: Session, trace: Trace, state: State) -> StateScore:
        """A value without an answer: of the oracle, or of chance."""
        truth = self._mode.truth(state, trace, session.task)
        value = truth
        if self._evaluator.judge == "random":
            value = float(generator(session.seed, "state", state.index).random())
        if value is None:
            raise AskesisError(
                "the world does not know what its states are worth",
                where=f"task {session.task.key}",
                next_step="set states.evaluator=policy; only generated worlds, such as search/chain, have an oracle",
            )
        return StateScore(state=state.index, after=state.after, value=value, truth=truth)


def _asking(messages: Sequence[Message], request: str) -> tuple[Message, ...]:
    """The conversation with a request behind it, in the user's last message where that comes last."""
    if not request:
        return tuple(messages)
    last = messages[-1]
    if last.role == "user":
        return (*messages[:-1], replace(last, content=f"{last.content}\n\n{request}"))
    return (*messages, Message(role="user", content=request))
