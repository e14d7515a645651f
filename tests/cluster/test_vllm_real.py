"""The real vLLM, on a CPU, with the built-in policy: ``make test-vllm``.

Servers take a minute or two to start, so all tests share one pair of them, and come in an order.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
import torch

from askesis.engines import Completion, Request, Sampling
from askesis.engines.sampling import Controls
from askesis.engines.sampling import _truncate as truncate
from askesis.engines.vllm import VllmEngine
from askesis.engines.vllm.answers import request_body
from askesis.engines.vllm.weights import write_snapshot
from askesis.errors import EngineError
from askesis.policy.loading import Policy, load_policy, weights_hash
from askesis.recipe.schema import VllmSection
from askesis.recipe.vllm import HOTTEST

PYTHON = os.environ.get("ASKESIS_VLLM_PYTHON", "")
T = TypeVar("T")

pytestmark = [
    pytest.mark.skipif(not PYTHON, reason="ASKESIS_VLLM_PYTHON names no interpreter with vLLM: make test-vllm"),
    pytest.mark.timeout(1500),
]

QUESTIONS = ["3.5+4.25=", "12*3=", "What is 7+8?", "Sort 3 1 2", "gcd(12, 18)", "1.5-0.25+2="]


class Site:
    """Two servers, the policy that they sample from, and the event loop of their engine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runner = asyncio.Runner()
        self.policy = load_policy("nano", device="cpu")
        section = VllmSection(python=PYTHON, replicas=2, arguments=["--enforce-eager"])
        self.engine = VllmEngine(self.policy, section, max_batch=64, context_length=512, folder=folder)

    def run(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def sample(self, requests: list[Request]) -> list[Completion]:
        async def all_of_them() -> list[Completion]:
            return list(await asyncio.gather(*(self.engine.generate(r) for r in requests)))

        return self.run(all_of_them())

    @property
    def replicas(self) -> list[Any]:
        return self.engine._fleet.replicas


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        made = Site(tmp_path_factory.mktemp("vllm"))
        began = time.monotonic()
        try:
            made.run(made.engine.start())
            print(f"two servers up and verified after {time.monotonic() - began:.0f} s")
            yield made
        finally:
            made.run(made.engine.close())
            made.runner.close()


def requests(policy: Policy, count: int, **sampling: Any) -> list[Request]:
    found = []
    for number in range(count):
        ids = policy.template.encode_prompt([_message(QUESTIONS[number % len(QUESTIONS)])])
        drawn = Sampling(**{"max_tokens": 48, **sampling})
        found.append(
            Request(
                prefix=tuple(ids),
                sampling=drawn,
                stop_ids=tuple(policy.template.stop_ids),
                seed=number,
                session=f"s{number}",
            )
        )
    return found


def _message(text: str) -> Any:
    from askesis.trace import Message

    return Message(role="user", content=text)


@torch.no_grad()
def gaps(policy: Policy, asked: list[Request], done: list[Completion]) -> np.ndarray[Any, Any]:
    """|engine - learner| of each sampled token, nats, under the distribution that was asked for."""
    found = []
    for request, answer in zip(asked, done, strict=True):
        ids = torch.tensor([[*request.prefix, *answer.tokens]])
        logits = policy.model(input_ids=ids).logits[0, len(request.prefix) - 1 : -1].float()
        if request.sampling.temperature == 0:
            best = logits.max(-1).values - logits[range(len(answer.tokens)), answer.tokens]
            assert (best < 1e-3).all() and set(answer.logprobs) == {0.0}
            found.append(np.zeros(len(answer.tokens)))
            continue
        controls = Controls.stack([request.sampling] * len(logits), torch.device("cpu"))
        p = truncate((logits / request.sampling.temperature).softmax(-1), controls)
        own = p[range(len(answer.tokens)), answer.tokens].log()
        found.append((own - torch.tensor(answer.logprobs)).abs().numpy())
    return np.concatenate(found)


def change(policy: Policy, step: float) -> None:
    """As an optimiser would: every weight, by about the learning rate."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, tensor in policy.trainable():
            tensor += step * torch.randn(tensor.shape, generator=generator).sign()


@pytest.mark.parametrize(
    "sampling",
    [
        {},
        {"temperature": 0.5},
        {"top_p": 0.8},
        {"top_k": 5},
        {"temperature": 1.5, "top_p": 0.9, "top_k": 20},
        {"temperature": 0.0},
    ],
    ids=str,
)
def test_what_was_sampled_is_what_the_learner_scores(site: Site, sampling: dict[str, Any]) -> None:
    asked = requests(site.policy, 24, **sampling)
    found = gaps(site.policy, asked, site.sample(asked))
    print(f"{sampling}: {len(found)} tokens, mean gap {found.mean():.1e}, largest {found.max():.1e} nats")
    # A token at the very edge of top-p may be kept by one side and cut by the other, which moves all the rest.
    assert found.mean() < 1e-4 and np.quantile(found, 0.99) < 1e-3


def test_answers_follow_the_distribution(site: Site) -> None:
    """First tokens of 600 answers to one prompt, against the probabilities: Pearson's statistic. At the highest
    temperature of vLLM, for at 1 nano knows what it wants to say.
    """
    base, warm = requests(site.policy, 1)[0], Sampling(max_tokens=1, temperature=HOTTEST)
    asked = [
        Request(prefix=base.prefix, sampling=warm, stop_ids=base.stop_ids, seed=i, session=str(i)) for i in range(600)
    ]
    first = [done.tokens[0] for done in site.sample(asked)]
    with torch.no_grad():
        p = site.policy.model(input_ids=torch.tensor([base.prefix])).logits[0, -1].div(HOTTEST).softmax(-1)
    cells: list[list[int]] = [[]]
    for token in p.argsort(descending=True).tolist():  # the rare ones together
        if float(p[cells[-1]].sum()) * 600 >= 20:
            cells.append([])
        cells[-1].append(token)
    seen = np.array([sum(t in cell for t in first) for cell in cells], dtype=float)
    expected = np.array([600 * float(p[cell].sum()) for cell in cells])
    statistic = float(((seen - expected) ** 2 / expected).sum())
    freedom = len(cells) - 1
    print(f"chi-square {statistic:.1f} with {freedom} degrees of freedom")
    assert freedom >= 5 and statistic < freedom + 5 * math.sqrt(2 * freedom)


def test_a_seed_names_an_answer(site: Site) -> None:
    asked = requests(site.policy, 12)
    first, second = site.sample(asked), site.sample(asked[::-1])[::-1]
    same = sum(a.tokens == b.tokens for a, b in zip(first, second, strict=True))
    print(f"{same} of 12 answers are the same again")
    assert same >= 11  # low-order bits depend on the batch


def test_answers_have_the_recorded_shape(site: Site) -> None:
    folder = Path(__file__).parents[1] / "engines" / "vllm" / "recorded"
    replica = site.replicas[0]
    body = request_body(requests(site.policy, 1, max_tokens=1)[0], replica.facts.model)
    answers = {
        "generate": replica.server.draw(body, 60.0),
        "models": replica.server._call("GET", "/v1/models", None, 60.0),
    }
    for name, answer in answers.items():
        if os.environ.get("ASKESIS_RECORD"):
            (folder / f"{name}.json").write_text(json.dumps(answer, indent=1) + "\n")
        assert _shape(json.loads((folder / f"{name}.json").read_text())) == _shape(answer)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shape(inner) for key, inner in value.items()}
    return [_shape(value[0])] if isinstance(value, list) and value else None


def test_new_weights_arrive_and_old_ones_are_found(site: Site) -> None:
    for version, step in ((1, 1e-3), (2, 1e-5)):
        change(site.policy, step)
        site.engine.publish(version)
        site.run(site.engine.deliver())
        assert site.engine.weights_hash() == weights_hash(site.policy.model)
        print({name: f"{value:.2g}" for name, value in site.engine.metrics.items()})
    asked = requests(site.policy, 24)
    done = site.sample(asked)
    assert {answer.version for answer in done} == {2} and gaps(site.policy, asked, done).mean() < 1e-4
    # One replica is given the version before by somebody else.
    held = write_snapshot(load_policy("nano", device="cpu"), site.folder / "other", 2)
    replica = site.replicas[1]
    replica.server.load(held.file, 2, has_door=True, timeout_s=120)
    with pytest.raises(EngineError, match="does not hold the learner's weights") as caught:
        site.engine.weights_hash()
    assert "replica 1" in str(caught.value)
    drifted = gaps(site.policy, asked, site.sample(asked)).mean()
    print(f"with one replica on the initial weights the mean gap is {drifted:.1e} nats")
    assert drifted > 1e-3
    site.engine.publish(3)
    site.run(site.engine.deliver())
    assert site.engine.weights_hash() == weights_hash(site.policy.model)


def test_the_probe_alone_finds_a_server_that_is_one_small_step_behind(site: Site) -> None:
    from askesis.engines.vllm.probing import Probe, judge

    before = Probe.of(site.policy, 512)
    replica = site.replicas[0]
    theirs = replica.server.score(before.sequences, replica.facts.model, 120.0)
    state = {name: tensor.clone() for name, tensor in site.policy.model.state_dict().items()}
    change(site.policy, 1e-5)
    now = Probe.of(site.policy, 512)
    site.policy.model.load_state_dict(state)
    gap = judge(theirs, before, None, limit=1e-3, where="replica 0")
    moved = float(np.abs(np.subtract(now.logprobs, before.logprobs)).mean())
    print(f"noise of the probe {gap:.1e} nats; a step of 1e-5 moves it by {moved:.1e}")
    with pytest.raises(EngineError, match="before the last update"):
        judge(theirs, now, before, limit=1e-3, where="replica 0")


def test_everything_but_sampling_is_closed(site: Site) -> None:
    replica = site.replicas[0]
    key = {"Authorization": f"Bearer {replica.process.key}"}
    with httpx.Client(base_url=replica.server.url, trust_env=False, timeout=30) as client:
        routes = client.get("/openapi.json", headers=key)
        assert routes.status_code == 404
        for path in ("/collective_rpc", "/update_weights", "/sleep", "/invocations", "/v1/completions", "/tokenize"):
            assert client.post(path, json={}, headers=key).status_code == 404
            assert client.post(path, json={}).status_code == 401
        for path in ("/inference/v1/generate", "/askesis/load"):
            assert client.post(path, json={}, headers={"Authorization": "Bearer guess"}).status_code == 401
        assert client.get("/health").status_code == 200


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_servers_listen_on_this_machine_only(site: Site) -> None:
    found = {f"{address} of {name}" for replica in site.replicas for address, name in listening(replica.process.group)}
    print("\n".join(sorted(found)))
    assert len(found) >= 2 and all(entry.startswith("127.0.0.1:") for entry in found)


def listening(group: int) -> list[tuple[str, str]]:
    """Addresses on which processes of a group accept TCP connections."""
    inodes = {}
    for number in members(group):
        for fd in Path(f"/proc/{number}/fd").iterdir():
            try:
                target = str(fd.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes[target[8:-1]] = Path(f"/proc/{number}/comm").read_text().strip()
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                host, port = fields[1].split(":")
                is_v4 = len(host) == 8
                name = ".".join(str(b) for b in bytes.fromhex(host)[::-1]) if is_v4 else f"[{host}]"
                found.append((f"{name}:{int(port, 16)}", inodes[fields[9]]))
    return found


def members(group: int) -> list[int]:
    """Living processes of a group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[2]) == group:
                found.append(int(entry.name))
    return found


def test_a_killed_replica_loses_no_answer_and_comes_back(site: Site) -> None:
    asked = requests(site.policy, 48, max_tokens=200, temperature=1.2)
    asked = [Request(prefix=r.prefix, sampling=r.sampling, stop_ids=(), seed=r.seed, session=r.session) for r in asked]
    victim = site.replicas[0]
    group = victim.process.group
    moved = site.engine.metrics["engine_sessions_moved"]

    async def main() -> list[Completion]:
        answers = asyncio.gather(*(site.engine.generate(r) for r in asked))
        await asyncio.sleep(0.5)
        for number in members(group):
            if number != group:  # the keeper is to notice
                os.kill(number, signal.SIGKILL)
        return list(await answers)

    done = site.run(main())
    assert [len(answer.tokens) for answer in done] == [200] * 48
    assert gaps(site.policy, asked, done).mean() < 1e-4
    assert site.engine.metrics["engine_sessions_moved"] > moved
    assert site.engine.metrics["engine_repeated"] > 0
    assert [replica.index for replica in site.engine._fleet.live] == [1] and members(group) == []
    change(site.policy, 1e-4)
    site.engine.publish(4)
    began = time.monotonic()
    site.run(site.engine.deliver())
    print(f"back and verified after {time.monotonic() - began:.0f} s")
    assert [replica.index for replica in site.engine._fleet.live] == [0, 1]
    assert site.engine.weights_hash() == weights_hash(site.policy.model)
    asked = requests(site.policy, 24)
    assert gaps(site.policy, asked, site.sample(asked)).mean() < 1e-4


def test_sampling_and_learning_overlap(site: Site, tmp_path: Path) -> None:
    """An asynchronous run on a server that is there, which samples while the learner computes."""
    replica = site.replicas[0]
    command = [
        *(sys.executable, "-m", "askesis", "train", "recipes/quickstart.toml", "--json"),
        *("engine.kind=vllm", f'engine.vllm.urls=["{replica.server.url}"]', "sampling.max_context=512"),
        *(f'run.dir="{tmp_path / "run"}"', "run.threads=1", "run.seed=902"),
        *("asynchronous.enabled=true", "asynchronous.max_staleness=2", "training.steps=12", "training.warmup_steps=1"),
        *("rollout.groups_per_step=4", "rollout.group_size=8", "evaluation.num_tasks=0", "training.checkpoint_every=0"),
    ]
    env = {**os.environ, "ASKESIS_VLLM_KEY": replica.process.key}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    run_id = json.loads(done.stdout.strip().splitlines()[-1])["run"]
    from askesis.store import Store

    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        metrics = store.metrics(run_id)
        used, groups = store.consumed(run_id), list(store.groups(run_id, purpose="train"))
        assert store.verify(heads=tmp_path / "run" / "heads.jsonl").ok
    assert sorted(used.values()) == sorted(list(range(12)) * 4)
    versions = [[set(call.versions.tolist()) for call in m.trace.calls] for g in groups for m in g.members]
    assert all(len(call) == 1 for session in versions for call in session)
    ages = [value for _, value in metrics["staleness_max"] if value is not None]
    drift = [value for _, value in metrics["drift"] if value is not None]
    print(f"staleness {max(ages):.0f} at most; drift {max(drift):.1e} nats")
    assert 0 < max(ages) <= 2
    assert max(drift) < 1e-4


def test_closing_leaves_no_process(site: Site) -> None:
    groups = [replica.process.group for replica in site.replicas]
    assert all(members(group) for group in groups)
    site.run(site.engine.close())
    assert [members(group) for group in groups] == [[], []]
    assert not (site.folder / "weights").exists()


def test_training_improves_the_reward(tmp_path: Path) -> None:
    """The quickstart, shortened, with nothing changed but who samples; killed half-way, and resumed."""
    command = [
        *(sys.executable, "-m", "askesis", "train", "recipes/quickstart.toml", "--json"),
        *("engine.kind=vllm", f"engine.vllm.python={PYTHON}", 'engine.vllm.arguments=["--enforce-eager"]'),
        f'run.dir="{tmp_path / "run"}"',
        *("training.steps=16", "rollout.groups_per_step=8", "rollout.group_size=16", "training.warmup_steps=1"),
        *("evaluation.num_tasks=200", "run.seed=901", "run.threads=1", "training.checkpoint_every=4"),
    ]
    env = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"}
    root = Path(__file__).parents[2]
    log = tmp_path / "first.log"
    with log.open("w") as output:
        first = subprocess.Popen(command, cwd=root, env=env, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 900
        while not (tmp_path / "run" / "checkpoints").is_dir() or not list((tmp_path / "run" / "checkpoints").iterdir()):
            assert first.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.5)
        first.kill()
        first.wait(30)
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"held-out accuracy {result['accuracy_before']:.3f} -> {result['accuracy_after']:.3f}, {result['wall_s']} s")
    from askesis.store import Store

    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        metrics = store.metrics(result["run"])
        assert store.verify(heads=tmp_path / "run" / "heads.jsonl").ok
    reward = [value for _, value in metrics["reward_mean"] if value is not None]
    drift = [value for _, value in metrics["drift"] if value is not None]
    print(f"reward {np.mean(reward[:4]):.3f} -> {np.mean(reward[-4:]):.3f}; drift {max(drift):.1e} nats")
    assert len(reward) == 16 and np.mean(reward[-4:]) > np.mean(reward[:4])
    assert max(drift) < 1e-4
