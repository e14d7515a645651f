"""What a policy sees at its next call: everything, the last exchanges, or a memory that it wrote itself.

A context belongs to one seat of one session. It holds messages and knows no tokens; the harness asks it what to send
(:meth:`Context.render`) and tells it all that happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from askesis.agents.formats import Observation
from askesis.agents.parsing import first_block
from askesis.trace.types import Message

__all__ = ["MEMORY_REQUEST", "CompactMemory", "Context", "FullContext", "WindowContext"]

MEMORY_REQUEST = (
    "Read what came back. Update the memory: keep everything in it that is relevant, add what is new and useful, and "
    "write it whole inside <memory> and </memory>."
)
"""What a policy is asked for after each result, in the compact context."""


class Context(Protocol):
    """A strategy."""

    @property
    def takes_hints(self) -> bool:
        """A reply that does nothing may be tried again in this context; otherwise it ends the session."""
        ...

    @property
    def wants_memory(self) -> bool:
        """The next reply is a memory, and no act."""
        ...

    def begin(self, messages: Sequence[Message]) -> None:
        """The first messages: instructions and task."""
        ...

    def observe(self, observations: Sequence[Observation]) -> None:
        """What the world or the tools said since the last reply."""
        ...

    def replied(self, message: Message) -> None:
        """What the policy said."""
        ...

    def remember(self, text: str) -> str | None:
        """Take the memory out of the last reply and start afresh from it; None when it holds none."""
        ...

    def render(self) -> tuple[Message, ...]:
        """The messages of the next call."""
        ...


class FullContext:
    """Everything that was ever said (ReAct). Grows with each turn."""

    takes_hints = True
    wants_memory = False

    def __init__(self) -> None:
        self._messages: list[Message] = []

    def begin(self, messages: Sequence[Message]) -> None:
        """The first messages."""
        self._messages = list(messages)

    def observe(self, observations: Sequence[Observation]) -> None:
        """Appended."""
        self._messages += [observation.message for observation in observations]

    def replied(self, message: Message) -> None:
        """Appended."""
        self._messages.append(message)

    def remember(self, text: str) -> str | None:
        """None: there is no memory."""
        return None

    def render(self) -> tuple[Message, ...]:
        """All messages."""
        return tuple(self._messages)


class WindowContext(FullContext):
    """The first messages and the last ``exchanges`` exchanges: a reply with what came back on it."""

    def __init__(self, exchanges: int) -> None:
        super().__init__()
        self._exchanges = exchanges
        self._opening = 0

    def begin(self, messages: Sequence[Message]) -> None:
        """The first messages, which never leave the window."""
        super().begin(messages)
        self._opening = len(messages)

    def render(self) -> tuple[Message, ...]:
        """What is left in the window; a result never stands without the call that it answers."""
        replies = [i for i, m in enumerate(self._messages) if i >= self._opening and m.role == "assistant"]
        start = replies[-self._exchanges] if len(replies) > self._exchanges else self._opening
        return (*self._messages[: self._opening], *self._messages[start:])


class CompactMemory:
    """The task and a short memory that the policy rewrites after every result; nothing else survives a turn.

    MemSearcher, arXiv 2511.02805. A turn is a conversation of its own: system message, then ``<question>`` and
    ``<memory>`` in one user message; the policy acts; what comes back and ``request`` are the next user message; the
    policy writes ``<memory>…</memory>``, which overwrites the old one.
    """

    takes_hints = False  # a second try would make the conversation longer than its bound

    def __init__(self, request: str = MEMORY_REQUEST) -> None:
        self.request = request
        """What is said after each result."""
        self._system: tuple[Message, ...] = ()
        self._task = ""
        self._turn: list[Message] = []
        self.memory = ""
        """As the policy last wrote it."""
        self.wants_memory = False

    def begin(self, messages: Sequence[Message]) -> None:
        """System messages stay as they are; all others are the task."""
        self._system = tuple(m for m in messages if m.role == "system")
        self._task = "\n\n".join(m.content for m in messages if m.role != "system")

    def observe(self, observations: Sequence[Observation]) -> None:
        """One user message with all that came back; then a memory is wanted."""
        texts = [observation.text for observation in observations]
        self._turn.append(Message(role="user", content="\n\n".join([*texts, *([self.request] * bool(self.request))])))
        self.wants_memory = True

    def replied(self, message: Message) -> None:
        """Part of this turn's conversation."""
        self._turn.append(message)

    def remember(self, text: str) -> str | None:
        """The first ``<memory>`` of ``text`` becomes the memory, and the conversation starts afresh."""
        memory = first_block(text, "memory")
        if memory is not None:
            self.memory, self._turn, self.wants_memory = memory, [], False
        return memory

    def render(self) -> tuple[Message, ...]:
        """Instructions, task and memory, then this turn."""
        task = f"<question> {self._task} </question>\n\n<memory> {self.memory} </memory>"
        return (*self._system, Message(role="user", content=task), *self._turn)
