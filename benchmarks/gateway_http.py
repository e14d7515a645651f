"""The gateway over HTTP beside the gateway in process: what a call costs, on an engine that costs nothing.

Server and client are processes of their own, as in use. ``overhead_p50_ms`` is the median of a call over loopback minus
the median of the same call in process; ``overhead_cpu_ms`` is the same difference in CPU time of the server's process,
which other programs on the machine disturb less. Rounds of the kinds alternate. ``openai`` is the same through OpenAI's
client, whose own work dominates.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.models import NANO, write_model
from benchmarks.reporting import options

__all__ = ["WANTED_MS", "summarise"]

WANTED_MS = 3.0
_CALLS = 100
_PROMPT = "State the final answer to the following arithmetic problem: 6 - 2 ="


def summarise(rounds: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """One object; ``ratio`` is the wanted overhead over the measured one: above 1 is good."""
    middle = {
        f"{side}_{name}": statistics.median(r[name] for r in found)
        for side, found in rounds.items()
        for name in found[0]
    }
    overhead = middle["http_p50_ms"] - middle["process_p50_ms"]
    return {
        "benchmark": "gateway_http",
        "ratio": WANTED_MS / overhead,
        "wanted": 1.0,
        "overhead_p50_ms": overhead,
        "overhead_cpu_ms": middle["http_cpu_ms"] - middle["process_cpu_ms"],
        "openai_overhead_p50_ms": middle["openai_p50_ms"] - middle["process_p50_ms"],
        "rounds": len(rounds["http"]),
        "calls": _CALLS,
        **middle,
    }


def _serve(folder: str, pipe: Connection) -> None:
    """The server's process: serves, and measures calls in process and its own CPU time when it is asked to."""
    asyncio.run(_answer(folder, pipe))


async def _answer(folder: str, pipe: Connection) -> None:
    import itertools

    from askesis.clock import SystemClock
    from askesis.engines import Sampling
    from askesis.engines.scripted import ScriptedEngine
    from askesis.gateway import Endpoint, Gateway, Session
    from askesis.gateway.http.door import SamplingRule, Terms
    from askesis.gateway.http.server import GatewayServer
    from askesis.policy.loading import load_policy
    from askesis.trace import Budgets, Message, StopReason, Task

    policy = load_policy(folder, device="cpu")
    engine = ScriptedEngine(policy.template, lambda text, seed: "<answer>4</answer>")
    gateway = Gateway(engine, policy.template, sampling=Sampling(), context_length=policy.context_length)
    task, numbers = Task(key="k", environment="e", payload={}), itertools.count()

    def open_endpoint(seed: int | None = None) -> Endpoint:
        session = Session(
            id=f"s{next(numbers)}",
            task=task,
            group_id="g",
            member_index=0,
            seed=0,
            policy_version=0,
            budgets=Budgets(),
            clock=SystemClock(),
        )
        return gateway.open(session)

    async def call() -> None:
        endpoint = open_endpoint()
        await endpoint.chat([Message(role="user", content=_PROMPT)])
        endpoint.close(StopReason.TERMINATED)

    terms = Terms(model="m", sampling=Sampling(), rule=SamplingRule.HONOUR)
    async with GatewayServer(gateway, terms=terms, open_endpoint=open_endpoint) as server:
        pipe.send(server.base_url)
        while (order := await asyncio.to_thread(pipe.recv)) != "end":
            if order == "process":
                times, before = [], time.process_time()
                for _ in range(_CALLS):
                    began = time.perf_counter()
                    await call()
                    times.append(time.perf_counter() - began)
                pipe.send(_figures(times, time.process_time() - before))
            else:
                pipe.send(time.process_time())


def _round(pipe: Connection, call: Callable[[], object] | None) -> dict[str, float]:
    """One round: calls in the server's process, or ``call`` from here."""
    if call is None:
        pipe.send("process")
        answer: dict[str, float] = pipe.recv()
        return answer
    pipe.send("cpu")
    before = pipe.recv()
    times = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    pipe.send("cpu")
    return _figures(times, pipe.recv() - before)


def _figures(times: list[float], cpu_s: float) -> dict[str, float]:
    """Of one round: wall time of a call, and CPU time of the server's process per call."""
    ordered = sorted(times)
    return {
        "p50_ms": 1e3 * statistics.median(ordered),
        "p99_ms": 1e3 * ordered[int(0.99 * len(ordered))],
        "cpu_ms": 1e3 * cpu_s / len(ordered),
    }


def _measure(rounds: int) -> dict[str, list[dict[str, float]]]:
    import httpx
    import openai

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(NANO, Path(folder) / "model")
        server = context.Process(target=_serve, args=(str(model), theirs))
        server.start()
        base_url = ours.recv()
        messages: list[Any] = [{"role": "user", "content": _PROMPT}]
        with httpx.Client() as bare, openai.OpenAI(base_url=base_url, api_key="any") as client:
            sides: dict[str, Callable[[], object] | None] = {
                "process": None,
                "http": lambda: bare.post(
                    f"{base_url}/chat/completions", json={"model": "m", "messages": messages}
                ).raise_for_status(),
                "openai": lambda: client.chat.completions.create(model="m", messages=messages),
            }
            for call in sides.values():  # warm-up
                _round(ours, call)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
            for number in range(rounds):
                for name in sides if number % 2 else reversed(sides):
                    found[name].append(_round(ours, sides[name]))
        ours.send("end")
        server.join()
    return found


def main() -> None:
    """Print the figures, and with ``--json`` one object."""
    chosen = options(__doc__).parse_args()
    record = summarise(_measure(chosen.rounds))
    print(f"gateway_http: {record['rounds']} rounds of {_CALLS} calls")
    for side, name in (("process", "in process"), ("http", "over HTTP"), ("openai", "OpenAI's client")):
        figures = [record[f"{side}_{figure}_ms"] for figure in ("p50", "p99", "cpu")]
        print(f"{name:<16} p50 {figures[0]:6.2f} ms, p99 {figures[1]:6.2f} ms, server {figures[2]:5.2f} CPU ms a call")
    print(
        f"overhead         p50 {record['overhead_p50_ms']:6.2f} ms, wanted less than {WANTED_MS:.0f}; "
        f"{record['overhead_cpu_ms']:.2f} CPU ms\n"
    )
    if chosen.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
