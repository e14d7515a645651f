"""What a world is: an environment that acts, an evaluator that judges, and a source of tasks.

An environment speaks in messages and never sees tokens. It returns only what is *new*: the history is the harness's
business. How an episode ended is explicit (:class:`Done`), and the reward is not the environment's to give: the
evaluator judges the trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from askesis.agents.tools import ToolResult
from askesis.environments.program.spec import Program
from askesis.errors import EnvironmentFault, TraceError
from askesis.gateway.session import Session
from askesis.trace.tree import Trace
from askesis.trace.types import Message, StopReason, Task, ToolCall, ToolSpec, Verdict, canonical_json

__all__ = [
    "SEAT",
    "AnswerMode",
    "Capabilities",
    "Done",
    "Environment",
    "Evaluator",
    "State",
    "TaskSource",
    "ToolResult",
    "Turn",
    "World",
    "validate_turn",
]

SEAT = "agent"
"""Name of the seat in a world for one."""

_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an environment promises; :func:`askesis.environments.check_environment` holds it to that."""

    deterministic: bool = True
    """The same task, session seed and messages give the same answers."""
    concurrent: bool = True
    """Several sessions may be open at once and do not influence each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Who must act now, and what each of them newly sees."""

    seats: Mapping[str, tuple[Message, ...]]
    info: Mapping[str, Any] = field(default_factory=dict)
    """What evaluators are to know and no policy sees, JSON-ready: an event of the trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The episode is over. Made by :meth:`terminated` or :meth:`truncated`."""

    stop: StopReason
    reason: str = ""
    """Why it was cut, in the environment's words; empty when it came to its own end."""
    info: Mapping[str, Any] = field(default_factory=dict)
    """What the environment knows at the end, JSON-ready. No reward."""

    @classmethod
    def terminated(cls, info: Mapping[str, Any] | None = None) -> Self:
        """The episode came to its own end: nothing follows, so nothing is bootstrapped."""
        return cls(stop=StopReason.TERMINATED, info=dict(info or {}))

    @classmethod
    def truncated(cls, reason: str, info: Mapping[str, Any] | None = None) -> Self:
        """The environment cut the episode, for example at its own step limit."""
        return cls(stop=StopReason.ENVIRONMENT_LIMIT, reason=reason, info=dict(info or {}))


class Environment(Protocol):
    """A world's moving part. One object serves all sessions; what belongs to a session is kept under ``session.id``."""

    @property
    def capabilities(self) -> Capabilities:
        """What this environment promises."""
        ...

    async def reset(self, session: Session) -> Turn:
        """Open the session and return its first messages."""
        ...

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        """Apply what the seats of the last turn wrote. Raises EnvironmentFault when the session is not open."""
        ...

    def tools(self) -> tuple[ToolSpec, ...]:
        """The tools that a policy may call between two steps."""
        ...

    async def call_tool(self, session: Session, seat: str, call: ToolCall) -> ToolResult:
        """Run a tool for ``seat``. What the policy is to see of an error is a result; what is raised fails the session,
        without a reward.
        """
        ...

    async def close(self, session: Session) -> None:
        """Free what the session holds. Called exactly once, also after a failure or a cancel; must not raise."""
        ...


class Evaluator(Protocol):
    """Judges a finished trace, and only what the policy generated in it."""

    @property
    def version(self) -> str:
        """Name and version, for example ``reasoning-gym/0.1.25``."""
        ...

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """A verdict. One that could not judge has status ERROR and no reward: None is never 0."""
        ...


class TaskSource(Protocol):
    """Tasks by number. The splits ``train`` and ``held_out`` share no task."""

    def task(self, split: str, index: int) -> Task:
        """Task number ``index``, counted from 0: the same one at every call, in every process."""
        ...

    def num_tasks(self, split: str) -> int | None:
        """How many there are; None when there is no end to them."""
        ...

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        """The first ``n`` tasks that differ from each other; fewer when the world has fewer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A point of a finished session from which its task could have been answered."""

    index: int
    """Counted from 0; 0 is the task alone."""
    at: int
    """Key of the act whose context is the state."""
    after: int | None
    """Key of the act that led to it; None for state 0."""


class AnswerMode(Protocol):
    """How a world's task is answered from the middle of a session, and what such an answer is worth.

    What it says of a session is computed from the finished trace; right answers are used for scores only and never
    reach a prompt.
    """

    @property
    def request(self) -> str:
        """What the policy is asked in a state; empty: nothing is said."""
        ...

    @property
    def prefill(self) -> str:
        """How the answer begins, given to the policy as its own words."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        ...

    def states(self, trace: Trace) -> Sequence[State]:
        """The states of a session, in order, state 0 first."""
        ...

    def score(self, text: str, task: Task) -> float:
        """What an answer is worth, 0 to 1, by the function of the session's outcome; ``text`` has no prefill."""
        ...

    def truth(self, state: State, trace: Trace, task: Task) -> float | None:
        """How much of what the answer takes the state holds, 0 to 1; None where the world does not know."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that a run needs to know about where its policy acts."""

    name: str
    environment: Environment
    evaluator: Evaluator
    tasks: TaskSource
    program: Program | None = None
    """Plays the sessions in the place of a harness: it sees the first messages and acts by itself, so the environment
    is reset and closed, never stepped.
    """
    answer_mode: AnswerMode | None = None
    """For worlds whose tasks can be answered at any point of a session."""


def validate_turn(value: object, *, where: str = "step") -> Turn | Done:
    """Return ``value`` if it is a well-formed Turn or Done; EnvironmentFault names what is wrong otherwise.

    ``where`` is the call that returned it. After ``reset`` only a Turn will do.
    """
    if isinstance(value, Done) and where != "reset":
        _validate_done(value, where)
        return value
    if not isinstance(value, Turn):
        raise _fault(
            "the environment returned neither a turn nor an end", where, value, "Turn" + ", Done" * (where != "reset")
        )
    if not isinstance(value.seats, Mapping) or not value.seats:
        raise _fault("a turn must name at least one seat", where, value.seats, "a mapping of seat name to new messages")
    for seat, messages in value.seats.items():
        if not isinstance(seat, str) or not seat:
            raise _fault("a seat's name is not a text", where, seat, "a string of at least one character")
        if not isinstance(messages, tuple):
            raise _fault("a seat's new messages are not a tuple", f"{where}, seat {seat}", messages, "tuple of Message")
        for index, message in enumerate(messages):
            _validate_message(message, f"{where}, seat {seat}, message {index}")
    _validate_info(value.info, where)
    return value


def _validate_message(message: object, where: str) -> None:
    if not isinstance(message, Message):
        raise _fault("a message is of the wrong type", where, message, "askesis.trace.Message")
    if message.role not in _ROLES:
        raise _fault("a message has an unknown role", where, message.role, ", ".join(_ROLES))
    if not isinstance(message.content, str):
        raise _fault("a message's content is not a text", where, message.content, "str")
    try:
        message.content.encode()
    except UnicodeEncodeError as error:
        raise _fault(
            "a message cannot be written as UTF-8", where, str(error), "text without lone surrogates"
        ) from error


def _validate_done(done: Done, where: str) -> None:
    if done.stop not in (StopReason.TERMINATED, StopReason.ENVIRONMENT_LIMIT):
        raise _fault(
            "an episode ended for a reason that is not the environment's", where, done.stop, "terminated or truncated"
        )
    if not isinstance(done.reason, str):
        raise _fault("the reason for the end is not a text", where, done.reason, "str")
    _validate_info(done.info, where)


def _validate_info(info: Mapping[str, Any], where: str) -> None:
    try:
        canonical_json(dict(info))
    except (TraceError, TypeError, ValueError) as error:
        raise _fault("an info cannot be written as JSON", where, info, "JSON-ready values") from error


def _fault(what: str, where: str, got: object, expected: str) -> EnvironmentFault:
    return EnvironmentFault(
        what,
        where=where,
        got=got,
        expected=expected,
        next_step="mend the environment; check_environment shows all of its faults",
    )
