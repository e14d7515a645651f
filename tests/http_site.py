"""A real server on a free port of this machine, in front of a scripted engine."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
import openai

from askesis.clock import SystemClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.gateway import Endpoint, Gateway, Session
from askesis.gateway.http.door import SamplingRule, Terms
from askesis.gateway.http.server import Access, GatewayServer
from askesis.policy.loading import Policy
from askesis.trace import Budgets, Task

UNLIMITED = Budgets()
Script = Callable[[str, int], str | Exception]


def by_seed(text: str, seed: int) -> str:
    """Differs between calls: each has a stream of its own."""
    return f"r{seed % 100_000}"


@dataclass
class Site:
    """A running server with what tests need to talk to it."""

    server: GatewayServer
    gateway: Gateway
    endpoint: Endpoint
    access: Access
    http: httpx.AsyncClient
    stack: AsyncExitStack
    public_key: str

    @property
    def root(self) -> str:
        """The server's address without a path."""
        return self.server.base_url.removesuffix("/v1")

    @cached_property
    def client(self) -> openai.AsyncOpenAI:
        """OpenAI's client for the session. Making one takes a while: only tests that use it do."""
        return self.connect(self.access.base_url, self.access.api_key)

    @cached_property
    def public(self) -> openai.AsyncOpenAI:
        """OpenAI's client for the plain endpoint."""
        return self.connect(self.server.base_url, self.public_key)

    def connect(self, base_url: str, api_key: str) -> openai.AsyncOpenAI:
        client = openai.AsyncOpenAI(base_url=base_url, api_key=api_key)
        self.stack.push_async_callback(client.close)
        return client

    async def post(self, body: Any, *, key: str | None = None, **headers: str) -> httpx.Response:
        """A request to the session by hand."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        secret = self.access.api_key if key is None else key
        url = f"{self.access.base_url}/chat/completions"
        return await self.http.post(url, json=body, headers={"authorization": f"Bearer {secret}", **headers})


class Slow(ScriptedEngine):
    """Answers only when it is let; remembers what was cancelled."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.gate = asyncio.Event()
        self.begun = 0
        self.cancelled = 0

    async def generate(self, request: Any) -> Any:
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().generate(request)


def make_session(number: int, budgets: Budgets = UNLIMITED) -> Session:
    return Session(
        id=f"s{number}",
        task=Task(key="k", environment="e", payload={}),
        group_id="g",
        member_index=0,
        seed=number,
        policy_version=0,
        budgets=budgets,
        clock=SystemClock(),
    )


@asynccontextmanager
async def open_site(
    policy: Policy,
    script: Script = by_seed,
    *,
    rule: SamplingRule = SamplingRule.REFUSE,
    budgets: Budgets = UNLIMITED,
    engine: ScriptedEngine | None = None,
    **options: Any,
) -> AsyncIterator[Site]:
    sampling = Sampling(max_tokens=80)
    gateway = Gateway(
        engine or ScriptedEngine(policy.template, script), policy.template, sampling=sampling, context_length=600
    )
    numbers = itertools.count(1)
    terms = Terms(model="nano", sampling=sampling, rule=SamplingRule.HONOUR)

    def open_endpoint(seed: int | None) -> Endpoint:
        return gateway.open(make_session(next(numbers) if seed is None else 0))

    server = GatewayServer(gateway, terms=terms, open_endpoint=open_endpoint, **options)
    endpoint = gateway.open(make_session(0, budgets))
    async with server, httpx.AsyncClient() as http, AsyncExitStack() as stack:
        with server.session(endpoint, model="policy", rule=rule) as access:
            yield Site(server, gateway, endpoint, access, http, stack, options.get("token") or "any")
