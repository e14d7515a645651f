"""The promise of a compact context: no call's prompt grows with the number of turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from askesis.errors import AskesisError

if TYPE_CHECKING:
    from askesis.agents.context import CompactMemory
    from askesis.agents.harness import Limits
    from askesis.gateway.gateway import Endpoint

__all__ = ["ContextBound"]

_SEAM = 16
"""Tokens that a template may add around a message, and that may appear where two texts meet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextBound:
    """The longest prompts that a session may send, in tokens."""

    act: int
    """Instructions, task and memory."""
    memory: int
    """The same, an act and what came back on it."""

    @classmethod
    def of(cls, first: int, limits: Limits, endpoint: Endpoint, context: CompactMemory) -> Self:
        """From the length of the first prompt, whose memory is empty, and the limits of its parts."""
        act = first + limits.memory_tokens + _SEAM
        longest = endpoint.sampling.max_tokens
        results = limits.calls_per_reply * (limits.result_tokens + _SEAM) + longest + _SEAM  # calls are echoed
        return cls(act=act, memory=act + longest + results + endpoint.count_tokens(context.request) + _SEAM)

    def check(self, num_context: int, *, after_act: bool) -> None:
        """Raise AskesisError for a prompt that is longer: the harness has a fault."""
        limit = self.memory if after_act else self.act
        if num_context > limit:
            raise AskesisError(
                "a compact context has outgrown its bound",
                got=f"{num_context} tokens",
                expected=f"at most {limit}",
                next_step="report this: the harness let something into the context that it does not count",
            )
