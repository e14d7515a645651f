"""What is computed: the same prompts for every side, from the round's number alone.

Only the standard library is used, because peers read this in their own environments. A prompt is a text of letters;
the benchmark models have one token per letter.
"""

from __future__ import annotations

import random
import string
from dataclasses import asdict, dataclass
from typing import Any, Self

__all__ = ["LETTERS", "Grpo", "Turns", "even_share"]

LETTERS = string.ascii_letters + string.digits


def _text(stream: random.Random, size: int) -> str:
    return "".join(stream.choices(LETTERS, k=size))


def even_share(ids: list[int]) -> float:
    """The reward of every benchmark: the share of even token ids. Cheap, and not constant within a group."""
    return sum(i % 2 == 0 for i in ids) / len(ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grpo:
    """One step: ``prompts`` prompts of ``prompt_tokens`` tokens, ``group`` answers of ``new_tokens`` to each."""

    prompts: int
    group: int
    prompt_tokens: int
    new_tokens: int

    def texts(self, number: int) -> list[str]:
        """The prompts of round ``number``: no two rounds share one, so no cache helps across rounds."""
        stream = random.Random(f"grpo {number}")
        return [_text(stream, self.prompt_tokens) for _ in range(self.prompts)]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """From :meth:`to_dict`."""
        return cls(**record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """Finished conversations: each turn adds ``observation`` read tokens and ``action`` sampled ones.

    The members of a group share their first observation and nothing after it. The first observation has
    ``first`` tokens.
    """

    prompts: int
    members: int
    turns: int
    first: int
    observation: int
    action: int

    def conversations(self, number: int, vocabulary: int) -> list[list[tuple[str, list[int]]]]:
        """Of each member, group by group: its turns as (observation, sampled ids)."""
        stream = random.Random(f"turns {number}")
        result = []
        for _ in range(self.prompts):
            first = _text(stream, self.first)
            for _ in range(self.members):
                said = [first, *(_text(stream, self.observation) for _ in range(self.turns - 1))]
                result.append([(text, [stream.randrange(vocabulary) for _ in range(self.action)]) for text in said])
        return result

    @property
    def distinct(self) -> int:
        """Tokens of the forest, each counted once."""
        per_member = self.turns * self.action + (self.turns - 1) * self.observation
        return self.prompts * (self.first + self.members * per_member)

    @property
    def per_sequence(self) -> int:
        """Tokens when each trajectory is a sequence of its own."""
        length = self.first + (self.turns - 1) * self.observation + self.turns * self.action
        return self.prompts * self.members * length

    @property
    def per_call(self) -> int:
        """Tokens when each call is a sequence of its own with its whole context."""
        turn = self.observation + self.action
        lengths = [self.first + self.action + k * turn for k in range(self.turns)]
        return self.prompts * self.members * sum(lengths)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """From :meth:`to_dict`."""
        return cls(**record)
