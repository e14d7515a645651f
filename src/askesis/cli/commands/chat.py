"""askesis chat"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator

from askesis.cli import output
from askesis.cli.policies import policy_name
from askesis.trace import Budgets, Message, StopReason, Task

__all__ = ["run"]


def run(policy: str, say: str | None, *, temperature: float, max_tokens: int, json_output: bool) -> None:
    """Answer one message, or talk until the input ends."""
    from askesis.policy.folder import resolve_name

    name = policy_name(policy)
    resolve_name(name)
    asyncio.run(_talk(name, say, temperature=temperature, max_tokens=max_tokens, json_output=json_output))


async def _talk(name: str, say: str | None, *, temperature: float, max_tokens: int, json_output: bool) -> None:
    from askesis.clock import SystemClock
    from askesis.engines import Sampling
    from askesis.engines.embedded import EmbeddedEngine
    from askesis.gateway import Gateway, Session
    from askesis.policy.loading import load_policy

    loaded = load_policy(name)
    engine = EmbeddedEngine(loaded)
    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    gateway = Gateway(engine, loaded.template, sampling=sampling, context_length=loaded.context_length)
    task = Task(key="chat", environment="chat", payload={})
    session = Session(
        id="chat",
        task=task,
        group_id="chat",
        member_index=0,
        seed=0,
        policy_version=0,
        budgets=Budgets(),
        clock=SystemClock(),
    )
    endpoint = gateway.open(session)
    history: list[Message] = []
    try:
        for text in _inputs(say):
            history.append(Message(role="user", content=text))
            reply = await endpoint.chat(history)
            history.append(reply.message)
            if not json_output:
                print(output.plain(reply.message.content), flush=True)
    finally:
        await engine.close()
    trace = endpoint.close(StopReason.TERMINATED)
    if json_output:
        output.emit({"messages": [m.to_dict() for m in history], "num_sampled": trace.num_sampled})


def _inputs(say: str | None) -> Iterator[str]:
    if say is not None:
        yield say
        return
    terminal = sys.stdin.isatty()
    while True:
        if terminal:
            print("you> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.rstrip("\n")
