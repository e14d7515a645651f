"""askesis serve"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import signal
import sys

from askesis.cli import output
from askesis.cli.policies import policy_name
from askesis.errors import RecipeError

__all__ = ["run"]


def run(
    policy: str,
    *,
    host: str,
    port: int,
    token: str | None,
    name: str | None,
    max_tokens: int,
    seed: int,
    json_output: bool,
) -> None:
    """Serve ``policy`` until the process is interrupted or told to end."""
    if not 0 <= port <= 65535 or max_tokens < 1:
        raise RecipeError(
            "an option is out of range",
            where="--port" if not 0 <= port <= 65535 else "--max-tokens",
            got=port if not 0 <= port <= 65535 else max_tokens,
            expected="a port from 0 to 65535, where 0 takes a free one; at least one token",
        )
    from askesis.gateway.http.server import is_loopback, require_serving
    from askesis.policy.folder import resolve_name

    require_serving()
    source = policy_name(policy)
    resolve_name(source)
    token = token or None
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    asyncio.run(
        _serve(
            source,
            model=name or policy,
            host=host,
            port=port,
            token=token,
            max_tokens=max_tokens,
            seed=seed,
            json_output=json_output,
        )
    )


async def _serve(
    source: str,
    *,
    model: str,
    host: str,
    port: int,
    token: str | None,
    max_tokens: int,
    seed: int,
    json_output: bool,
) -> None:
    from askesis.clock import SystemClock
    from askesis.engines import Sampling
    from askesis.engines.embedded import EmbeddedEngine
    from askesis.gateway import Endpoint, Gateway, Session
    from askesis.gateway.http.door import SamplingRule, Terms
    from askesis.gateway.http.server import GatewayServer
    from askesis.policy.loading import load_policy
    from askesis.streams import seed_of
    from askesis.trace import Budgets, Task

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    loaded = load_policy(source)
    sampling = Sampling(max_tokens=min(max_tokens, loaded.context_length))
    engine = EmbeddedEngine(loaded, admission="continuous")
    gateway = Gateway(engine, loaded.template, sampling=sampling, context_length=loaded.context_length)
    task = Task(key="serve", environment="serve", payload={})
    numbers = itertools.count()

    def open_endpoint(asked_seed: int | None) -> Endpoint:
        number = next(numbers)
        stream = ("request", number) if asked_seed is None else ("seeded",)
        session = Session(
            id=f"request-{number}",
            task=task,
            group_id="serve",
            member_index=0,
            seed=seed_of(seed, *stream),
            policy_version=0,
            budgets=Budgets(),
            clock=SystemClock(),
        )
        return gateway.open(session)

    terms = Terms(model=model, sampling=sampling, rule=SamplingRule.HONOUR)
    try:
        async with GatewayServer(
            gateway, host=host, port=port, terms=terms, open_endpoint=open_endpoint, token=token
        ) as server:
            _tell(server.base_url, model, token, json_output=json_output)
            await ended.wait()
    finally:
        await engine.close()


def _tell(base_url: str, model: str, token: str | None, *, json_output: bool) -> None:
    if json_output:
        output.emit({"base_url": base_url, "model": model, "token": token})
        return
    print(f"serving {output.plain(model)} at {base_url}", flush=True)
    print(f"  OPENAI_BASE_URL={base_url}  OPENAI_API_KEY={token or 'anything'}", flush=True)
    print("Ctrl-C ends it", file=sys.stderr, flush=True)
