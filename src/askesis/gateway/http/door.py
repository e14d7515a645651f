"""One session behind HTTP: requests become calls of its endpoint, replies become answers.

What a client sees of a reply is not always all of it: calls of tools are taken out of the text, and a stop text is cut
off. When the client sends such a message back, the door puts the sampled text in its place, so that the next call
continues the recorded ids and nothing is tokenised again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from askesis.engines import Sampling
from askesis.errors import BudgetExhausted, ContextOverflow, EngineError
from askesis.gateway.gateway import Endpoint, Reply
from askesis.gateway.http.refusal import Refusal
from askesis.gateway.http.tools import read_calls, show_call, show_tools
from askesis.gateway.http.wire import Asked, Said, ToolAsked
from askesis.streams import seed_of
from askesis.trace import Failure, FailureOrigin, Message, StopReason

__all__ = ["Answer", "Choice", "Door", "SamplingRule", "Terms"]


class SamplingRule(StrEnum):
    """What becomes of sampling parameters that a client sends."""

    HONOUR = "honour"
    """They are used."""
    REFUSE = "refuse"
    """Only the session's own are served: what is trained on must come from the distribution that the learner assumes.
    Asking for fewer tokens is allowed.
    """
    OVERRIDE = "override"
    """The session's own are used in their place, and the trace says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which name the policy answers, and what may be asked of it."""

    model: str
    sampling: Sampling
    """Used where the client leaves a field out."""
    rule: SamplingRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of the answers to a request, as the client sees it. ``finish`` is stop, length or tool_calls."""

    content: str
    tool_calls: tuple[ToolAsked, ...]
    finish: str
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All choices of a request, and what it cost in tokens."""

    choices: tuple[Choice, ...]
    num_context: int
    version: int
    """Of the weights that sampled."""

    @property
    def num_sampled(self) -> int:
        """Tokens of all choices."""
        return sum(len(choice.tokens) for choice in self.choices)


class Door:
    """Speaks for ``endpoint`` under ``terms``. ``stop`` and ``failure`` say what went wrong, for whoever ends the
    session: the first budget that was spent or context that was full, and the first failure of the engine.
    """

    def __init__(self, endpoint: Endpoint, terms: Terms) -> None:
        self.endpoint = endpoint
        self.terms = terms
        self.stop: StopReason | None = None
        self.failure: Failure | None = None
        self._sampled: dict[tuple[bytes, str], Message] = {}
        self._num_open = 0
        self._busy_s = 0.0
        self._since = 0.0

    @property
    def busy_s(self) -> float:
        """Seconds during which at least one call was being answered, on the event loop's clock."""
        running = asyncio.get_running_loop().time() - self._since if self._num_open else 0.0
        return self._busy_s + running

    async def answer(self, asked: Asked) -> Answer:
        """Let the policy speak ``asked.n`` times.

        Raises Refusal for a model or parameters that are not served, and what :meth:`Endpoint.chat` raises.
        """
        if asked.model != self.terms.model:
            raise Refusal(
                404,
                "model_not_found",
                f"there is no model called {asked.model[:100]!r}; the one here is {self.terms.model!r}",
                param="model",
            )
        sampling = self._sampling(asked)
        messages, state = self._messages(asked)
        self._begin()
        try:
            replies = await self._replies(asked, messages, sampling)
        except BudgetExhausted as error:
            self.stop = self.stop or StopReason(error.reason)
            raise
        except ContextOverflow:
            self.stop = self.stop or StopReason.CONTEXT_OVERFLOW
            raise
        except EngineError as error:
            self.failure = self.failure or _failure(error)
            raise
        finally:
            self._end()
        choices = tuple(self._choice(reply, asked, state) for reply in replies)
        return Answer(choices=choices, num_context=replies[0].num_context, version=replies[0].version)

    async def _replies(self, asked: Asked, messages: Sequence[Message], sampling: Sampling) -> list[Reply]:
        def seed(index: int) -> int | None:
            return None if asked.seed is None else seed_of(asked.seed, "choice", index)

        def call(index: int) -> Any:
            return self.endpoint.chat(messages, sampling=sampling, stop=asked.stop, seed=seed(index))

        if asked.n == 1:
            return [await call(0)]
        tasks = [asyncio.ensure_future(call(index)) for index in range(asked.n)]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    def _begin(self) -> None:
        if not self._num_open:
            self._since = asyncio.get_running_loop().time()
        self._num_open += 1

    def _end(self) -> None:
        self._num_open -= 1
        if not self._num_open:
            self._busy_s += asyncio.get_running_loop().time() - self._since

    def _sampling(self, asked: Asked) -> Sampling:
        """The parameters of this call, or Refusal."""
        own, rule = self.terms.sampling, self.terms.rule
        given = {name: getattr(asked, name) for name in ("temperature", "top_p", "top_k", "max_tokens")}
        wanted = {name: value for name, value in given.items() if value is not None and value != getattr(own, name)}
        if rule is SamplingRule.HONOUR:
            return replace(own, **wanted)
        shorter = (
            {"max_tokens": wanted["max_tokens"]} if wanted.get("max_tokens", own.max_tokens) < own.max_tokens else {}
        )
        others = {name: value for name, value in wanted.items() if name not in shorter}
        if others and rule is SamplingRule.REFUSE:
            name = next(iter(others))
            raise Refusal(
                400,
                "sampling_is_fixed",
                f"{name}={others[name]} was asked for, but this session is recorded for training and samples with "
                f"{name}={getattr(own, name)}; leave {name} out, change the recipe's sampling.{name}, or let the "
                "recipe's value win with environment.options.override_sampling=true",
                param=name,
            )
        if others:
            self.endpoint.note({"event": "sampling_overridden", "asked": others})
        return replace(own, **shorter)

    def _messages(self, asked: Asked) -> tuple[list[Message], bytes]:
        """The conversation as the policy sees it, and a digest of it."""
        messages: list[Message] = []
        state = b""
        said = list(asked.messages)
        if asked.tools:
            shown = show_tools(asked.tools)
            if said[0].role == "system":
                said[0] = replace(said[0], content=f"{said[0].content}\n\n{shown}")
            else:
                said.insert(0, Said(role="system", content=shown))
        for one in said:
            message = (
                self._sampled.get((state, _seen(one.content, one.tool_calls))) if one.role == "assistant" else None
            )
            messages.append(message or _plain(one))
            state = _digest(state, messages[-1])
        return messages, state

    def _choice(self, reply: Reply, asked: Asked, state: bytes) -> Choice:
        content, finish = reply.message.content, reply.finish
        ends = [content.index(text) for text in asked.stop if text in content]
        if ends:
            content = content[: min(ends)]
        calls: tuple[ToolAsked, ...] = ()
        if asked.tools:
            found = read_calls(content)
            content = found.content
            calls = tuple(
                ToolAsked(id=_call_id(state, reply.tokens, place), name=name, arguments=arguments)
                for place, (name, arguments) in enumerate(found.calls)
            )
        if calls and finish == "stop":
            finish = "tool_calls"
        if content != reply.message.content or calls:
            self._sampled[(state, _seen(content, calls))] = reply.message
        return Choice(content=content, tool_calls=calls, finish=finish, tokens=reply.tokens, logprobs=reply.logprobs)


def _failure(error: EngineError) -> Failure:
    return Failure(origin=FailureOrigin.ENGINE, kind=type(error).__name__, message=str(error)[:4000])


def _plain(said: Said) -> Message:
    """A message that the policy did not write in this session, or that needs nothing put back."""
    calls = [show_call(call.name, call.arguments) for call in said.tool_calls]
    content = "\n".join([*([said.content] if said.content else []), *calls]) if calls else said.content
    return Message(role=said.role, content=content, tool_call_id=said.tool_call_id, name=said.name)


def _digest(state: bytes, message: Message) -> bytes:
    text = json.dumps(message.to_dict(), sort_keys=True)
    return hashlib.sha256(state + text.encode()).digest()


def _seen(content: str, calls: Sequence[ToolAsked]) -> str:
    """What a client sees of a message, as one text."""
    return json.dumps([content, *([c.id, c.name, c.arguments] for c in calls)])


def _call_id(state: bytes, tokens: Sequence[int], place: int) -> str:
    """Differs between conversations and answers; equal for equal ones, so that a run can be repeated."""
    text = f"{state.hex()} {list(tokens)} {place}"
    return f"call_{hashlib.sha256(text.encode()).hexdigest()[:24]}"
