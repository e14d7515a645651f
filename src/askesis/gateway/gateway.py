"""Sessions talk to a policy through an endpoint; the endpoint keeps their budgets and records every token.

Messages come in, messages go out. Between them the gateway decides whether a call continues a recorded one (then its
ids are extended, never tokenised again) or opens another root. An HTTP server can stand in front of :class:`Endpoint`
without changing it.
"""

from __future__ import annotations

import asyncio
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from askesis.engines import Completion, Engine, Request, Sampling, TracksSessions
from askesis.errors import BudgetExhausted, ContextOverflow, TraceError
from askesis.gateway.session import Session
from askesis.metering import Activity, charging
from askesis.policy.template import ChatTemplate
from askesis.streams import seed_of
from askesis.trace import Call, Failure, Fork, Message, StopReason, Trace, TraceBuilder

__all__ = ["Endpoint", "Gateway", "Reply"]

_CHARACTERS_PER_TOKEN = 32
"""More than a usual tokenizer packs into one; a text of longer tokens is only shortened more than it must be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the policy said: the text, and the very ids with their behaviour log-probabilities (nats). ``finish`` is
    ``stop`` or ``length``.
    """

    message: Message
    finish: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    num_context: int
    """Tokens that the call was sent."""
    version: int
    """Of the weights that sampled, the first tokens of it if they changed meanwhile."""
    key: int
    """Of the call in the trace."""

    @property
    def num_tokens(self) -> int:
        """Tokens that were sampled."""
        return len(self.tokens)


class Gateway:
    """Opens one endpoint per session over one engine. A new gateway is a new rollout to its engine."""

    def __init__(self, engine: Engine, template: ChatTemplate, *, sampling: Sampling, context_length: int) -> None:
        self._engine = engine
        if isinstance(engine, TracksSessions):
            engine.begin()
        self._template = template
        self._sampling = sampling
        self._context_length = context_length

    @property
    def template(self) -> ChatTemplate:
        """Between messages and ids."""
        return self._template

    @property
    def sampling(self) -> Sampling:
        """How a call is drawn that does not say otherwise."""
        return self._sampling

    @property
    def context_length(self) -> int:
        """Longest prompt and answer together, tokens."""
        return self._context_length

    @contextmanager
    def holding(self, session: Session) -> Iterator[None]:
        """The engine reckons with ``session`` in this block, from before it opens until it has been judged: batches
        then do not depend on how long an evaluator takes, or when another session takes its place.
        """
        if not isinstance(self._engine, TracksSessions):
            yield
            return
        self._engine.enter(session.id)
        try:
            yield
        finally:
            self._engine.leave(session.id)

    def open(self, session: Session) -> Endpoint:
        """An endpoint for ``session``; its clock starts now."""
        return Endpoint(session, self._engine, self._template, self._sampling, self._context_length)

    def reopen(self, session: Session, trace: Trace) -> Endpoint:
        """An endpoint that goes on where ``trace``, recorded through another one, ended: calls may fork from it.

        The budgets of ``session`` count from here.
        """
        endpoint = self.open(session)
        endpoint.adopt(trace)
        return endpoint


class Endpoint:
    """One session's door to the policy. Calls may run side by side (a fork); each has its own place in the trace."""

    def __init__(
        self, session: Session, engine: Engine, template: ChatTemplate, sampling: Sampling, context_length: int
    ) -> None:
        self.session = session
        self._engine = engine
        self._template = template
        self._sampling = sampling
        self._context_length = context_length
        self._builder = TraceBuilder()
        self._conversations: dict[int, tuple[Message, ...]] = {}
        self._events: list[Mapping[str, Any]] = []
        self._num_calls = 0
        self._next_key = 0
        self._num_sampled = 0
        self._num_reserved = 0
        self._opened = session.clock.now()
        self._closed = False
        self._leave: Callable[[], object] = lambda: None
        if isinstance(engine, TracksSessions):
            engine.enter(session.id)
            # A session that is cancelled drops its endpoint without closing it; the others must not wait for it.
            leave = weakref.finalize(self, engine.leave, session.id)
            leave.atexit = False
            self._leave = leave

    @property
    def num_replies(self) -> int:
        """How often the policy has spoken."""
        return len(self._builder.calls)

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn when a call does not say."""
        return self._sampling

    def count_tokens(self, text: str) -> int:
        """How many tokens ``text`` is by itself."""
        with charging(Activity.TOKENISING):
            return len(self._template.encode_text(text))

    def shorten(self, text: str, max_tokens: int) -> str:
        """The start of ``text`` that is at most ``max_tokens`` tokens by itself."""
        head = text[: max_tokens * _CHARACTERS_PER_TOKEN]  # 100 MB are not tokenised to keep 500 tokens
        with charging(Activity.TOKENISING):
            ids = self._template.encode_text(head)
            kept = max_tokens
            while len(ids) > max_tokens:
                head = self._template.decode(ids[:kept]).rstrip("\ufffd")  # the cut may go through a character
                kept -= 1
                ids = self._template.encode_text(head)
        return head

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        sampling: Sampling | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        prefill: str = "",
        fork: Fork | None = None,
    ) -> Reply:
        """Let the policy speak next.

        Args:
            messages: the conversation so far.
            sampling: how to draw; the gateway's own unless given.
            stop: texts that end the answer. What was sampled after the token that completes one is dropped as if it
                had never been drawn, so the tokens that are kept have the distribution of a sampler that stops there.
            seed: names the answer's random stream within the session; by default the number of the call does.
            prefill: how the answer begins: given to the policy as its own words, not sampled, no part of the reply.
            fork: marks a call that is no act of the session.

        Raises:
            BudgetExhausted: turns, tokens or seconds of the session are spent; carries the stop reason.
            ContextOverflow: the conversation leaves no room for a single token.
            TemplateError: the chat template refuses the conversation.
        """
        room = self._claim()
        key = self._next_key
        self._num_calls += 1
        self._next_key += 1
        with charging(Activity.TOKENISING):
            context, fresh = self._context(messages)
            context = [*context, *self._template.encode_text(prefill)] if prefill else context
        wanted = sampling or self._sampling
        space = self._context_length - len(context)
        if space < 1:
            raise ContextOverflow(
                "the conversation fills the model's context",
                where=f"session {self.session.id}, call {key}",
                got=f"{len(context)} tokens",
                expected=f"fewer than {self._context_length}",
                next_step="shorten the prompt, raise sampling.max_context, or take a model with a longer context",
            )
        limit = min(wanted.max_tokens, space, room)
        self._num_reserved += limit
        try:
            async with asyncio.timeout(self._seconds_left()):
                done = await self._generate(
                    Request(
                        prefix=tuple(context),
                        sampling=replace(wanted, max_tokens=limit),
                        stop_ids=self._template.stop_ids,
                        seed=seed_of(self.session.seed, *(("call", key) if seed is None else ("asked", seed))),
                        session=self.session.id,
                        variant=self.session.variant,
                    )
                )
        except TimeoutError:
            raise self._spent(
                StopReason.MAX_SECONDS, "no answer from the engine in time", f"at most {self.session.budgets.seconds} s"
            ) from None
        finally:
            self._num_reserved -= limit
        if self._closed:
            raise TraceError("a call came back after its session was closed", where=f"session {self.session.id}")
        with charging(Activity.TOKENISING):
            done = self._cut(done, stop)
            reply = Message(role="assistant", content=self._template.decode(done.tokens))
        self._num_sampled += len(done.tokens)
        self._conversations[key] = tuple(messages)
        self._builder.record(
            Call(
                key=key,
                context=np.array(context, dtype=np.uint32),
                sampled=np.array(done.tokens, dtype=np.uint32),
                logprobs=np.array(done.logprobs, dtype=np.float32),
                policy_version=done.version,
                messages=tuple(fresh),
                reply=reply,
                finish=done.finish,
                sampling=wanted.to_dict(),
                fork=fork,
                swaps=done.swaps,
            )
        )
        return Reply(
            message=reply,
            finish=done.finish,
            tokens=tuple(done.tokens),
            logprobs=tuple(done.logprobs),
            num_context=len(context),
            version=done.version,
            key=key,
        )

    def adopt(self, trace: Trace) -> None:
        """Take over what another endpoint recorded. For one that has not been called yet."""
        for call in trace.calls:
            head: tuple[Message, ...] = ()
            for key, known in self._conversations.items():
                before = next(c for c in self._builder.calls if c.key == key)
                spoken = np.concatenate([before.context, before.sampled])
                is_continued = np.array_equal(call.context[: len(spoken)], spoken)
                if before.reply is not None and is_continued and len(known) >= len(head):
                    head = (*known, before.reply)
            self._conversations[call.key] = (*head, *call.messages)
            self._builder.record(call)
            self._next_key = call.key + 1
        self._events = list(trace.events)

    def messages_of(self, key: int) -> tuple[Message, ...]:
        """The conversation that call ``key`` was sent."""
        return self._conversations[key]

    async def _generate(self, request: Request) -> Completion:
        if self._engine.capabilities.meters_itself:
            return await self._engine.generate(request)
        with charging(Activity.SAMPLING):
            return await self._engine.generate(request)

    def note(self, event: Mapping[str, Any]) -> None:
        """Keep a JSON-ready event (a tool call, a guard's decision) in the trace."""
        self._events.append(dict(event))

    def close(self, stop: StopReason, *, failure: Failure | None = None) -> Trace:
        """End the session and return what was recorded. Later calls are refused."""
        self._closed = True
        self._leave()
        return self._builder.finish(stop, failure=failure, events=self._events)

    def _cut(self, done: Completion, stop: Sequence[str]) -> Completion:
        """Up to the first token with which the text holds one of ``stop``."""
        if not any(text in self._template.decode(done.tokens) for text in stop):
            return done

        def holds(size: int) -> bool:
            text = self._template.decode(done.tokens[:size])
            return any(end in text for end in stop)

        size = bisect_left(range(len(done.tokens)), True, lo=1, key=holds)
        swaps = tuple(swap for swap in done.swaps if swap[0] < size)
        return replace(done, tokens=done.tokens[:size], logprobs=done.logprobs[:size], finish="stop", swaps=swaps)

    def _claim(self) -> int:
        """Tokens that may still be sampled; raises when a budget is spent."""
        if self._closed:
            raise TraceError("the session is closed", where=f"session {self.session.id}")
        budgets = self.session.budgets
        seconds_left = self._seconds_left()
        if budgets.turns is not None and self._num_calls >= budgets.turns:
            raise self._spent(StopReason.MAX_TURNS, f"{self._num_calls} calls", f"at most {budgets.turns}")
        if seconds_left is not None and seconds_left <= 0:
            elapsed = self.session.clock.now() - self._opened
            raise self._spent(StopReason.MAX_SECONDS, f"{elapsed:.1f} s", f"at most {budgets.seconds} s")
        if budgets.tokens is None:
            return self._context_length
        left = budgets.tokens - self._num_sampled - self._num_reserved
        if left < 1:
            raise self._spent(StopReason.MAX_TOKENS, f"{self._num_sampled} tokens", f"at most {budgets.tokens}")
        return left

    def _seconds_left(self) -> float | None:
        seconds = self.session.budgets.seconds
        return None if seconds is None else seconds - (self.session.clock.now() - self._opened)

    def _spent(self, reason: StopReason, got: str, expected: str) -> BudgetExhausted:
        return BudgetExhausted(
            f"the session's budget is spent: {reason.value}",
            reason=reason.value,
            where=f"session {self.session.id}",
            got=got,
            expected=expected,
        )

    def _context(self, messages: Sequence[Message]) -> tuple[list[int], Sequence[Message]]:
        """Ids of the conversation and which messages are new, continuing the recorded call with the longest common
        head.
        """
        calls = {c.key: c for c in self._builder.calls}
        whole = tuple(messages)
        # Only what was answered in this very conversation can be continued; a fork was not.
        heads = {
            key: known
            for key, known in self._conversations.items()
            if len(known) < len(whole) and whole[: len(known)] == known and whole[len(known)].role == "assistant"
        }
        longest = max((len(known) for known in heads.values()), default=0)
        for key, known in heads.items():
            if len(known) < longest:
                continue  # a template that rewrites the longest head rewrites the shorter ones too
            call = calls[key]
            ids = self._template.continue_prompt(known, call.context.tolist(), call.sampled.tolist(), messages)
            if ids is not None:
                return ids, messages[len(known) + 1 :]
        return self._template.encode_prompt(messages), messages
