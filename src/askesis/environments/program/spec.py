"""What a black-box program is, as data; :mod:`askesis.rollout.program` runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["AgentFunction", "Assignment", "Command", "Program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """All that a program learns of its session: what to do, and how to reach the policy. No answer, no payload."""

    prompt: str
    """The opening messages of the world, one paragraph each."""
    base_url: str
    """Of an OpenAI-compatible endpoint that records what is sampled."""
    api_key: str
    """Good for this session only."""
    model: str


AgentFunction = Callable[[Assignment], Awaitable[str | None]]
"""A program in our own process; what it returns is its output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program of the operating system.

    It gets ``OPENAI_BASE_URL``, ``OPENAI_API_KEY`` and ``OPENAI_MODEL`` in its environment, and the prompt in the
    arguments where ``{prompt}`` stands, else on standard input. It starts in an empty folder of its own, with none of
    our environment but ``PATH``, ``HOME``, the locale and what ``env`` adds.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    """Folder to start in; empty: a new one, removed afterwards."""
    preload: tuple[str, ...] = ()
    """Modules that are imported once; each session then continues from there in a process of its own. Needs a command
    of the form ``python script.py …``.
    """
    max_output_bytes: int = 64 << 10
    """Kept of standard output, and of standard error; the rest is read and thrown away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program and the terms it runs under."""

    agent: Command | AgentFunction
    model: str = "policy"
    """Name by which it calls the policy."""
    timeout_s: float = 60.0
    """Seconds for its own work: time in which it waits for the policy does not count."""
    override_sampling: bool = False
    """Sampling parameters that it sends give way to the recipe's; otherwise other ones are refused."""
