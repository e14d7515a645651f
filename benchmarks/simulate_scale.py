"""What one driver process spends on many sessions and many engines, with everything real but the answers.

    python -m benchmarks.simulate_scale                                   # 1,000 sessions, 8 engines
    python -m benchmarks.simulate_scale --sessions 10000 --engines 64     # all at once

Runner, harness, gateway, template, trace builder and store are those of a run, and so is the client of vLLM: it speaks
HTTP and JSON with stub servers in other processes, which answer with the same ids after a while. All sessions are open
at once. The stub servers cost processor time of this machine, but not of the driver, of which alone it is told: its CPU
seconds per call, session, group and token, and from them its utilisation at a given rate of the engines. No time of
the clock enters that, so a busy machine changes it little.

The learner's own work, and encoding weights for the servers, are not in it.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch

from askesis.engines import Capabilities, Completion, Engine, Request, Sampling
from askesis.engines.vllm import VllmEngine
from askesis.engines.vllm.fleet import Replica
from askesis.engines.vllm.wire import Facts, Server
from askesis.gateway import Gateway
from askesis.policy.loading import Policy, load_policy
from askesis.recipe.schema import VllmSection
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings
from askesis.store import Group, RunRecord, Store
from askesis.trace import Budgets, Task
from benchmarks.reporting import options
from benchmarks.side_by_side import table
from benchmarks.workers.world import make_world
from benchmarks.workload import Turns

__all__ = ["Rates", "utilisation"]

WANTED = 0.5
_BATCH = 64
"""Groups in one transaction of the store: a step."""


class _Free:
    """An engine that costs nothing and answers after a while: the same calls without HTTP."""

    version = 0
    capabilities = Capabilities(token_exact=True, shares_weights=False)

    def __init__(self, tokens: int, seconds: float) -> None:
        self._tokens = tuple(range(100, 100 + tokens))
        self._logprobs, self._seconds = tuple(-0.1 for _ in self._tokens), seconds

    async def generate(self, request: Request) -> Completion:
        """The same answer."""
        await asyncio.sleep(self._seconds)
        return Completion(tokens=self._tokens, logprobs=self._logprobs, finish="length", version=0)

    def publish(self, version: int) -> None:
        """There are no weights."""

    def weights_hash(self) -> str:
        """There are no weights."""
        return "stub"

    async def close(self) -> None:
        """Nothing is held."""


def _serve(count: int, tokens: int, seconds: float) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("workers") / "stub_vllm.py"
    command = [sys.executable, "-I", str(script), str(count), str(tokens), str(seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _vllm(policy: Policy, ports: Sequence[int], folder: Path) -> VllmEngine:
    """The client of a run, in front of the stubs. They have no weights, so what a start verifies is left out."""
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    engine = VllmEngine(policy, VllmSection(urls=urls), max_batch=1 << 20, context_length=1 << 20, folder=folder)
    facts = Facts(version="stub", model="stub", max_model_len=1 << 20, has_door=True)
    engine._fleet.replicas = [
        Replica(index, Server(f"stub {index}", url, ""), None, facts, alive=True) for index, url in enumerate(urls)
    ]
    return engine


class Rates:
    """What the engines give: ``engines`` times ``tokens_per_s``, in answers of ``answer`` tokens, ``turns`` of them a
    session.
    """

    def __init__(self, *, engines: int, tokens_per_s: float, answer: int, turns: int, members: int) -> None:
        self.tokens_per_s = engines * tokens_per_s
        self.calls_per_s = self.tokens_per_s / answer
        self.sessions_per_s = self.calls_per_s / turns
        self.groups_per_s = self.sessions_per_s / members


def utilisation(rates: Rates, record: dict[str, Any]) -> dict[str, Any]:
    """CPU seconds per second of the driver, by what it does; and how many processes share the rollout.

    Args:
        rates: of the engines.
        record: ``call_ms`` of a model call with all that the rollout does around it, ``store_ms`` and ``unpack_ms`` of
            a group.
    """
    rollout = rates.calls_per_s * record["call_ms"] / 1000
    store = rates.groups_per_s * record["store_ms"] / 1000
    unpack = rates.groups_per_s * record["unpack_ms"] / 1000
    return {
        "rollout": rollout,
        "store": store,
        "alone": rollout + store,
        "workers": max(1, -int(-rollout // WANTED)),
        "with_workers": store + unpack,
    }


def _specs(load: Turns) -> list[GroupSpec]:
    conversations = load.conversations(0, 256)
    specs = []
    for place in range(load.prompts):
        says = [text for text, _ in conversations[place * load.members]]
        task = Task(key=f"t/{place}", environment="bench", payload={"says": says}, split="train")
        name = f"S/train/{place:06d}"
        specs.append(
            GroupSpec(group_id=name, run_id="S", purpose="train", step=0, task=task, size=load.members, seed=place)
        )
    return specs


def _play(engine: Engine, policy: Policy, load: Turns) -> tuple[list[Group], float, float]:
    """The groups, and the seconds of processor and clock that they took."""
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=load.action), context_length=1 << 20)
    settings = RolloutSettings(
        max_concurrent=1 << 20, call_timeout_s=600.0, budgets=Budgets(turns=1 << 20, tokens=1 << 20, seconds=3600.0)
    )
    runner, specs, groups = RolloutRunner(make_world(), gateway, settings), _specs(load), list[Group]()

    async def main() -> None:
        groups.extend(await runner.run(specs, policy_version=0))
        await engine.close()

    cpu, wall = time.process_time(), time.perf_counter()
    asyncio.run(main())
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    failed = [m.verdict.error for g in groups for m in g.members if len(m.trace.calls) != load.turns]
    if failed:
        raise RuntimeError(f"{len(failed)} sessions failed: {failed[0]}")
    return groups, cpu, wall


def _store_s(groups: Sequence[Group], folder: Path) -> float:
    """CPU seconds of storing, reading back what is complete, and consuming it."""
    with Store.open(folder / "store.db") as store:
        store.add_run(RunRecord(run_id="S", recipe_hash="", recipe={}, seed=0, versions={}))
        began = time.process_time()
        for first in range(0, len(groups), _BATCH):
            part = groups[first : first + _BATCH]
            store.append_groups(part)
            store.consume("S", [group.group_id for group in part], step=first)
        return time.process_time() - began


def _unpack_s(groups: Sequence[Group]) -> float:
    """CPU seconds of taking groups that another process of ours has made."""
    packed = [bytes(ForkingPickler.dumps(group)) for group in groups]
    began = time.process_time()
    for data in packed:
        ForkingPickler.loads(data)
    return time.process_time() - began


def measure(load: Turns, engines: int, seconds: float, *, over_http: bool) -> dict[str, Any]:
    """CPU milliseconds of the driver: of a call with all that belongs to it, of storing and unpacking a group."""
    torch.set_num_threads(1)
    policy = load_policy("nano", device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder, processes = Path(name), list[Any]()
        engine: Engine = _Free(load.action, seconds)
        if over_http:
            halves = [engines - engines // 2, engines // 2]
            processes = [_serve(count, load.action, seconds) for count in halves if count]
            ports = [port for process in processes for port in json.loads(process.stdout.readline())]
            engine = _vllm(policy, ports, folder)
        try:
            groups, cpu_s, wall_s = _play(engine, policy, load)
        finally:
            for process in processes:
                process.communicate()
        calls = load.prompts * load.members * load.turns
        return {
            "call_ms": 1000 * cpu_s / calls,
            "session_ms": 1000 * cpu_s / (load.prompts * load.members),
            "token_us": 1e6 * cpu_s / (calls * load.action),
            "store_ms": 1000 * _store_s(groups, folder) / load.prompts,
            "unpack_ms": 1000 * _unpack_s(groups) / load.prompts,
            "busy_share": cpu_s / wall_s,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def main() -> None:
    """Measure and print."""
    parser = options(__doc__, rounds=1)
    parser.add_argument("--sessions", type=int, default=1000, help="open at once")
    parser.add_argument("--engines", type=int, default=8)
    parser.add_argument("--group", type=int, default=16, help="sessions of one task")
    parser.add_argument("--turns", type=int, default=4, help="calls of a session")
    parser.add_argument("--answer", type=int, default=256, help="tokens of a call")
    parser.add_argument("--observation", type=int, default=128, help="tokens that the environment says in a turn")
    parser.add_argument("--first", type=int, default=512, help="tokens of the first prompt")
    parser.add_argument("--wait", type=float, default=1.0, help="seconds that an answer takes")
    parser.add_argument("--rate", type=float, default=2000.0, help="tokens per second of an engine, for the arithmetic")
    parser.add_argument("--no-http", action="store_true", help="an engine in this process, which costs nothing")
    args = parser.parse_args()
    load = Turns(
        prompts=args.sessions // args.group,
        members=args.group,
        turns=args.turns,
        first=args.first,
        observation=args.observation,
        action=args.answer,
    )
    record = measure(load, args.engines, args.wait, over_http=not args.no_http)
    rates = Rates(
        engines=args.engines, tokens_per_s=args.rate, answer=args.answer, turns=args.turns, members=args.group
    )
    used = utilisation(rates, record)
    rows = [(name, f"{value:.2f}") for name, value in record.items()]
    rows += [(f"{name}, of one core" if name != "workers" else name, f"{value:.2f}") for name, value in used.items()]
    print(
        f"{load.prompts * load.members} sessions open at once, {args.engines} engines; arithmetic at "
        f"{rates.tokens_per_s:.0f} tokens/s, {rates.calls_per_s:.0f} calls/s, {rates.sessions_per_s:.0f} sessions/s"
    )
    print(table(["figure", "value"], rows))
    if args.json:
        print(json.dumps({"benchmark": "simulate_scale", **record, "utilisation": used, **vars(args)}))


if __name__ == "__main__":
    main()
