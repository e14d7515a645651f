"""A world with tools for tests of the harness, and a policy that says what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from askesis.agents import Agent, End, Harness, Toolbox, ToolResult
from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.gateway import Gateway, Session
from askesis.gateway.gateway import Endpoint
from askesis.policy.loading import Policy
from askesis.trace import Budgets, Message, StopReason, Task, Trace


def say(*texts: str) -> Callable[[str, int], str]:
    """A script: the n-th call is answered by the n-th text, the last one again and again."""
    count = -1

    def script(prompt: str, seed: int) -> str:
        nonlocal count
        count += 1
        return texts[min(count, len(texts) - 1)]

    return script


def open_endpoint(
    policy: Policy,
    script: Callable[[str, int], str | Exception],
    *,
    budgets: Budgets | None = None,
    max_tokens: int = 60,
    context_length: int = 4096,
) -> Endpoint:
    engine = ScriptedEngine(policy.template, script)
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=max_tokens), context_length=context_length)
    return gateway.open(
        Session(
            id="s",
            task=Task(key="k", environment="e", payload={}),
            group_id="g",
            member_index=0,
            seed=0,
            policy_version=0,
            budgets=budgets or Budgets(),
            clock=VirtualClock(),
        )
    )


def play(
    endpoint: Endpoint, harness: Harness, toolbox: Toolbox, turns: Sequence[Sequence[Message]]
) -> tuple[list[Message | End], Trace]:
    """What an agent says to each turn of a world, and the trace."""

    async def run() -> list[Message | End]:
        agent: Agent = harness.seat(endpoint, toolbox.call)
        return [await agent.act(turn) for turn in turns]

    acts = VirtualClock().run(run())
    return acts, endpoint.close(StopReason.TERMINATED)


def search(query: str) -> str:
    """Find something."""
    return f"found {query}"


def huge(query: str) -> str:
    """Return far too much."""
    return "x " * 5_000_000


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Not shown.
    """
    return a + b


async def waits(query: str) -> ToolResult:
    """Say no."""
    return ToolResult(content="error: no", is_error=True)
