"""Two real ranks on gloo against one process: the same losses, metrics, norms and weights; and what a lost rank costs.

The ranks are started once for the whole file, since most of its time is their imports. Everything that needs more of
them is in the opt-in half, which `make test-cluster` runs.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from askesis.algorithms import PRESETS, build
from askesis.engines import Request, Sampling
from askesis.engines.embedded import sample_batch
from askesis.errors import AlgorithmError, LearnerError
from askesis.learners import CriticSettings, GradientLearner, LearnerSettings, Sample, UpdateReport, rows_of
from askesis.learners.ranks import RankedLearner
from askesis.learners.ranks.group import LocalRanks, RankLost, start_here
from askesis.learners.ranks.learner import MAX_LOSSES
from askesis.learners.ranks.wire import Message
from askesis.policy.loading import Policy, load_policy
from askesis.trace import Call, StateScore, StopReason, TraceBuilder

SETTINGS: dict[str, Any] = {"lr": 1e-4, "total_steps": 10, "micro_batch_tokens": 30, "epochs": 2}
STEPS = 2
KILLS = int(os.environ.get("ASKESIS_TEST_KILLS", "2"))


class SharedRanks(LocalRanks):
    """Ranks that outlive the learners that use them."""

    def close(self) -> None:
        """Not yet."""

    def end(self) -> None:
        super().close()


@pytest.fixture(scope="module")
def ranks() -> Iterator[SharedRanks]:
    group = SharedRanks(2, timeout_s=100)
    group.meet(device="cpu", threads=1)
    yield group
    group.end()


def policy_of(folder: Path, lora_rank: int = 0) -> Policy:
    with torch.random.fork_rng():
        torch.manual_seed(5)  # new adapters are drawn
        return load_policy(str(folder), device="cpu", lora_rank=lora_rank)


def batch_of(policy: Policy, num_groups: int = 3) -> list[Sample]:
    """Pairs of trajectories of two calls: the second call goes on in one, and starts anew in the other."""
    samples = []
    for number in range(2 * num_groups):
        first = [number // 2, 4, 5]
        contexts = [(first, 3 + number), ([*first, 7] if number % 2 else [9, 9, number], 4)]
        requests = [
            Request(prefix=tuple(c), sampling=Sampling(max_tokens=n), stop_ids=(), seed=10 * number + i)
            for i, (c, n) in enumerate(contexts)
        ]
        calls = [
            Call(key=i, context=c, sampled=d.tokens, logprobs=d.logprobs)
            for i, ((c, _), d) in enumerate(zip(contexts, sample_batch(policy, requests), strict=True))
        ]
        trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
        states = tuple(StateScore(state=i, after=i - 1 if i else None, value=0.1 * number * i) for i in range(2))
        samples.append(
            Sample(trace_id=str(number), trace=trace, reward=number % 3 / 2, group=number // 2, states=states)
        )
    return samples


class Outcome(NamedTuple):
    reports: list[UpdateReport]
    norm: float
    scores: torch.Tensor
    weights: torch.Tensor
    optimizer: dict[str, torch.Tensor]
    values: dict[str, Any]


def weights_of(policy: Policy) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for _, p in policy.trainable()])


def outcome(agent: GradientLearner, batch: list[Sample], steps: int = STEPS) -> Outcome:
    reports = [agent.update(batch) for _ in range(steps)]
    norm = agent.gradient_norm(batch, micro_batch_tokens=20)
    scores = agent.score(rows_of(batch), packed=not agent.settings.packed)
    return Outcome(reports, norm, scores, weights_of(agent.policy), *agent.state_dict())


def compare(one: Outcome, two: Outcome) -> None:
    for ours, theirs in zip(one.reports, two.reports, strict=True):
        assert ours.advantages == pytest.approx(theirs.advantages, abs=1e-5)
        assert theirs.metrics["lost_ranks"] == 0
        for name, value in ours.metrics.items():
            expected = None if value is None else pytest.approx(value, rel=1e-5, abs=1e-5)
            assert theirs.metrics[name] == expected, name
    assert one.norm == pytest.approx(two.norm, rel=1e-5, abs=1e-5)
    assert torch.allclose(one.scores, two.scores, atol=1e-5)
    assert torch.allclose(one.weights, two.weights, atol=1e-5)
    assert one.values == pytest.approx(two.values)
    assert one.optimizer.keys() == two.optimizer.keys()
    assert all(torch.allclose(t, two.optimizer[name], atol=1e-5) for name, t in one.optimizer.items())


def both(
    ranks: LocalRanks, folder: Path, name: str, options: dict[str, object], lora_rank: int = 0, **changes: Any
) -> None:
    """One process and two ranks learn the same."""
    algorithm = build(name, {"kl_beta": 0.0, **options})
    critic = CriticSettings() if algorithm.has_critic else None
    num_groups = changes.pop("num_groups", 3)
    settings = LearnerSettings(**{**SETTINGS, "critic": critic, **changes})
    outcomes = []
    for make in (GradientLearner, partial(RankedLearner, start=lambda: ranks)):
        policy = policy_of(folder, lora_rank)
        start = weights_of(policy)
        batch = batch_of(policy, num_groups)
        outcomes.append(outcome(make(policy, algorithm, settings), batch))
        assert float((outcomes[-1].weights - start).abs().max()) > settings.lr / 2  # something was learned
    compare(*outcomes)


more = pytest.mark.opt_in

CASES = {
    "packed, with a reference": ("grpo", {"kl_beta": 0.1}, {}),
    "padded, with a critic": ("ppo", {}, {"packed": False, "epochs": 1}),
    "adapters, and the distance from the reference": ("dgpo_hellinger", {}, {"lora_rank": 2, "epochs": 1}),
    "an objective that couples a trajectory that is cut": ("vespo", {}, {"micro_batch_tokens": 9, "epochs": 1}),
}


@pytest.mark.parametrize("case", [*list(CASES)[:1], *(pytest.param(name, marks=more) for name in list(CASES)[1:])])
def test_two_ranks_learn_what_one_process_learns(case: str, ranks: SharedRanks, tiny_folder: Path) -> None:
    name, options, changes = CASES[case]
    both(ranks, tiny_folder, name, options, **changes)


# From here on: only when asked for.


@more
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", [preset.name for preset in PRESETS])
def test_every_algorithm_in_both_layouts(name: str, packed: bool, ranks: SharedRanks, tiny_folder: Path) -> None:
    lr = 1e-6 if name == "gspo" else 1e-4
    both(ranks, tiny_folder, name, {}, packed=packed, lr=lr, updates_per_step=2)


@more
@pytest.mark.parametrize("num_groups", [1, 2, 3])
@pytest.mark.parametrize("tokens", [1, 25, 1 << 20])
def test_any_number_of_micro_batches(num_groups: int, tokens: int, ranks: SharedRanks, tiny_folder: Path) -> None:
    both(ranks, tiny_folder, "grpo", {"kl_beta": 0.1}, micro_batch_tokens=tokens, num_groups=num_groups)


def run_of(folder: Path, steps: int, start: Any, keep_every: int = 1) -> tuple[RankedLearner, list[Sample]]:
    policy = policy_of(folder)
    batch = batch_of(policy)
    settings = LearnerSettings(**{**SETTINGS, "critic": CriticSettings()})
    agent = RankedLearner(policy, build("ppo"), settings, start=start, keep_every=keep_every)
    for _ in range(steps):
        agent.update(batch)
    return agent, batch


def passed_on(agent: GradientLearner, folder: Path, make: Any) -> GradientLearner:
    """Another learner that goes on where ``agent`` is, as from a checkpoint."""
    state, weights = agent.state_dict(), {n: p.detach().clone() for n, p in agent.policy.trainable()}
    policy = policy_of(folder)
    settings = LearnerSettings(**{**SETTINGS, "critic": CriticSettings()})
    other = make(policy, build("ppo"), settings)  # the reference is the policy of the start
    with torch.no_grad():
        for name, parameter in policy.trainable():
            parameter.copy_(weights[name])
    other.load_state_dict(*state)
    return other


@more
def test_a_run_goes_on_with_another_number_of_ranks(ranks: SharedRanks, tiny_folder: Path) -> None:
    on_ranks = partial(RankedLearner, start=lambda: ranks)
    agent, batch = run_of(tiny_folder, 3, lambda: ranks)
    unbroken = weights_of(agent.policy)
    agent, batch = run_of(tiny_folder, 1, lambda: ranks)
    for make in (GradientLearner, on_ranks):
        other = passed_on(agent, tiny_folder, make)
        other.update(batch)
        agent = other  # type: ignore[assignment]
    assert torch.allclose(weights_of(agent.policy), unbroken, atol=1e-5)
    agent, batch = run_of(tiny_folder, 2, lambda: ranks)
    again = passed_on(agent, tiny_folder, on_ranks)
    again.update(batch)
    assert torch.equal(weights_of(again.policy), unbroken)  # as many ranks: bit for bit


class Restarted:
    """Starts ranks, and kills one of them at a random moment of some of the work."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.group: LocalRanks | None = None
        self.seen: list[int] = []

    def __call__(self) -> LocalRanks:
        self.group = start_here(2, device="cpu", threads=1, timeout_s=100)
        self.seen += self.group.pids
        return self.group

    def kill_after(self, seconds: float) -> threading.Thread:
        def kill() -> None:
            time.sleep(seconds)
            if self.group is not None:
                os.kill(self.chance.choice(self.group.pids), signal.SIGKILL)

        thread = threading.Thread(target=kill)
        thread.start()
        return thread


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@more
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("keep_every", [1, 3])
def test_killed_ranks_change_nothing(keep_every: int, ranks: SharedRanks, tiny_folder: Path) -> None:
    kills = -(-KILLS // 2)
    updates = kills + 4
    agent, batch = run_of(tiny_folder, 0, lambda: ranks)
    began = time.monotonic()
    for _ in range(updates):
        agent.update(batch)
    each = (time.monotonic() - began) / updates
    unbroken, state = weights_of(agent.policy), agent.state_dict()
    start = Restarted(keep_every)
    agent, batch = run_of(tiny_folder, 0, start, keep_every)
    killed = start.chance.sample(range(updates), kills)
    for update in range(updates):
        killer = start.kill_after(start.chance.uniform(0, each)) if update in killed else None
        agent.update(batch)
        if killer is not None:
            killer.join()
            agent.score(rows_of(batch))  # a rank that died after the last answer is noticed here
    assert len(agent.losses) == kills and all("was killed by SIGKILL" in text for text in agent.losses)
    assert torch.equal(weights_of(agent.policy), unbroken)
    ours, values = agent.state_dict()
    assert values == state[1] and all(torch.equal(ours[name], t) for name, t in state[0].items())
    agent.close()
    assert not any(map(is_alive, start.seen))


@more
@pytest.mark.timeout(600)
def test_ranks_that_are_lost_again_and_again_end_the_run(tiny_folder: Path) -> None:
    start = Restarted(3)
    agent, batch = run_of(tiny_folder, 1, start)
    begun = 0

    def doomed() -> LocalRanks:
        nonlocal begun
        begun += 1
        group = start()
        os.kill(group.pids[1], signal.SIGKILL)
        return group

    agent.ranked._start = doomed
    assert start.group is not None
    os.kill(start.group.pids[0], signal.SIGKILL)
    with pytest.raises(LearnerError, match="a rank of the learner was lost") as caught:
        agent.update(batch)
    assert caught.value.got == "rank 1 was killed by SIGKILL" and begun == MAX_LOSSES
    assert not any(map(is_alive, start.seen))


@more
@pytest.mark.timeout(600)
def test_a_rank_that_hangs_is_lost_after_its_deadline(tiny_folder: Path) -> None:
    group = start_here(2, device="cpu", threads=1, timeout_s=100)
    group.timeout_s = 5
    os.kill(group.pids[1], signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(RankLost, match=r"gave no answer within cluster\.timeout_s = 5 s"):
        group.call([Message({"do": "memory"}, {})] * 2)
    assert time.monotonic() - began < 10
    pids = group.pids
    group.close()
    assert not any(map(is_alive, pids))


@more
def test_a_gradient_that_is_not_finite_changes_nothing(tiny_folder: Path) -> None:
    start = Restarted(0)
    policy = policy_of(tiny_folder)
    batch = batch_of(policy, 1)
    agent = RankedLearner(policy, build("grpo", {"kl_beta": 0.0}), LearnerSettings(**SETTINGS), start=start)
    before = weights_of(policy)
    bad = [Sample(trace_id=s.trace_id, trace=s.trace, reward=1e38 * i, group=0) for i, s in enumerate(batch)]
    for sample in bad:
        object.__setattr__(sample, "weight", float("inf"))
    with pytest.raises(AlgorithmError):
        agent.update(bad)
    assert torch.equal(weights_of(policy), before)
    assert torch.isfinite(agent.score(rows_of(batch))).all()  # from ranks that were given the weights anew
    assert (agent.version, agent.losses) == (0, [])
    agent.close()


def listening(pids: list[int]) -> list[str]:
    """Addresses, in the kernel's own writing, on which the processes listen."""
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                inodes.add(str(link.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.append(fields[1].partition(":")[0])
    return found


@more
@pytest.mark.skipif(sys.platform != "linux", reason="finds sockets in /proc")
def test_everything_that_ranks_open_is_on_loopback(ranks: SharedRanks, tiny_folder: Path) -> None:
    run_of(tiny_folder, 1, lambda: ranks)
    addresses = listening(ranks.pids)
    assert addresses
    assert set(addresses) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


DRIVER = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
import test_learner as known
from askesis.learners.ranks.group import start_here

group = start_here(2, device="cpu", threads=1, timeout_s=100)
agent, batch = known.run_of(Path(sys.argv[1]), 0, lambda: group)
print(*group.pids, flush=True)
for _ in range({updates}):
    agent.update(batch)
"""


@more
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("updates", [0, 10_000])
def test_no_rank_outlives_its_driver(updates: int, tiny_folder: Path) -> None:
    """Neither its end nor ``kill -9`` in the middle of work."""
    chance = random.Random(updates)
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    for _ in range(1 if updates == 0 else max(KILLS // 4, 1)):
        command = [sys.executable, "-c", DRIVER.format(updates=updates), str(tiny_folder), *paths]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
            assert driver.stdout is not None
            pids = [int(word) for word in driver.stdout.readline().split()]
            assert len(pids) == 2
            if updates:
                time.sleep(chance.uniform(0, 3))
                driver.kill()
            driver.wait(100)
        until = time.monotonic() + 30
        while any(map(is_alive, pids)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not any(map(is_alive, pids))


@more
def test_adapters_on_half_precision(ranks: SharedRanks, tiny_folder: Path) -> None:
    """What is trained is float32; the rest rounds, so only the scores of untrained weights are compared."""
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=2, dtype="bfloat16")
    batch = batch_of(policy)
    settings = LearnerSettings(**SETTINGS)
    algorithm = build("grpo", {"kl_beta": 0.1})
    one = GradientLearner(policy, algorithm, settings)
    two = RankedLearner(policy, algorithm, settings, start=lambda: ranks)
    assert torch.allclose(one.score(rows_of(batch)), two.score(rows_of(batch)), atol=0.05)
    before = weights_of(policy)
    assert two.update(batch).metrics["grad_norm"] > 0
    assert float((weights_of(policy) - before).abs().max()) > 1e-5
