"""Sampling and learning at the same time: nothing is lost or used twice, and it can be repeated to the bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from askesis.environments import World
from askesis.environments.fakes import Fault, FlakyEnvironment, make_echo_world
from askesis.environments.latency import with_latency
from askesis.errors import AskesisError
from askesis.learners.ranks.group import LocalRanks
from askesis.recipe import Recipe, Resolved
from askesis.store import Group, Store
from askesis.trace import Task
from askesis.training.asynchronous import patience_s
from askesis.training.loop import TrainingResult, train
from askesis.training.preflight import prepare
from askesis.training.progress import PlainProgress
from askesis.training.rundir import RunDir
from askesis.training.simulation import Simulation
from small_run import final, parity, small, start

ASYNC = ["asynchronous.enabled=true", "training.steps=6", "evaluation.num_tasks=0", "training.checkpoint_every=0"]
KILLS = int(os.environ.get("ASKESIS_TEST_KILLS", "2"))


def simulate(
    resolved: Resolved[Recipe], world: World | None = None, *, mean_s: float = 0.2, sigma: float = 1.0
) -> TrainingResult:
    """On virtual time: 10 ms a token, 0.1 s an update, log-normal waits per turn."""
    simulation = Simulation(token_s=0.01, compute_s=0.1)
    with Path(os.devnull).open("w") as sink, PlainProgress(sink, clock=simulation.clock) as progress:
        world = with_latency(world or parity(), mean_s=mean_s, sigma=sigma)
        return train(resolved, prepare(resolved).run, world, progress, simulation=simulation)


class Records:
    """What a run left in its store."""

    def __init__(self, run: Path) -> None:
        with Store.open(run / "store.db", read_only=True) as store:
            (entry,) = store.runs()
            run_id = entry.record.run_id
            self.used = store.consumed(run_id)
            self.groups: dict[str, Group] = {g.group_id: g for g in store.groups(run_id, purpose="train")}
            self.waiting = [name for name, _ in store.waiting(run_id)]
            self.metrics = {
                name: [value for _, value in series if value is not None]
                for name, series in store.metrics(run_id).items()
            }
            heads = run / "heads.jsonl"
            self.verified = store.verify(heads=heads if heads.exists() else None).ok

    @property
    def ages(self) -> list[int]:
        """Staleness of each group that was consumed; in these runs every step makes an update."""
        return [step - self.groups[name].step for name, step in self.used.items()]

    @property
    def schedule(self) -> list[tuple[str, int, int]]:
        """What was consumed when, and how old it was."""
        return [(name, step, self.groups[name].step) for name, step in self.used.items()]

    @property
    def versions(self) -> list[set[int]]:
        """Of each session, those that sampled it."""
        return [{int(v) for c in m.trace.calls for v in c.versions} for g in self.groups.values() for m in g.members]


@pytest.fixture(scope="module")
def simulated(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("simulated") / "run"
    simulate(small(tiny_folder, run, *ASYNC))
    return run


def test_every_step_uses_whole_groups_once_within_the_bound(simulated: Path) -> None:
    records = Records(simulated)
    assert records.verified
    assert Counter(records.used.values()) == dict.fromkeys(range(6), 2)
    assert records.used.keys() | set(records.waiting) == records.groups.keys()
    assert all(len(g.members) == 3 for g in records.groups.values())
    assert 0 < max(records.ages) <= 2 and min(records.ages) >= 0
    assert len(records.groups) == 12  # nothing was begun that no step could use


def test_the_schedule_on_virtual_time_is_a_function_of_the_recipe(
    simulated: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC))
    assert Records(tmp_path / "run").schedule == Records(simulated).schedule
    assert final(tmp_path / "run") == final(simulated)


class NobodyPlays(Exception):
    """Raised where a group is played that should come from the store."""


class Unplayable(FlakyEnvironment):
    async def reset(self, session: object) -> object:  # type: ignore[override]
        raise NobodyPlays


def test_a_recorded_schedule_is_replayed_to_the_same_weights(
    simulated: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(simulated, run)
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "model")
    world = parity()
    start(small(tiny_folder, run, *ASYNC), replace(world, environment=Unplayable(world.environment, {})))
    assert final(run) == final(simulated)


def test_sessions_go_on_with_new_weights_and_say_which_token_is_whose(simulated: Path) -> None:
    records = Records(simulated)
    calls = [c for g in records.groups.values() for m in g.members for c in m.trace.calls]
    assert any(c.swaps for c in calls), "no answer spans a change of weights"
    assert any(len(versions) > 1 for versions in records.versions)
    for group in records.groups.values():
        versions = [v for m in group.members for c in m.trace.calls for v in c.versions]
        assert group.step == min(versions)
        for member in group.members:
            for branch in member.trace.branches():
                own = {c.key: c for c in member.trace.calls}
                for key in set(branch.call[branch.sampled].tolist()):
                    assert branch.policy_version[branch.call == key].tolist() == own[key].versions.tolist()


@pytest.mark.opt_in
def test_without_partial_rollouts_a_session_keeps_its_weights(tiny_folder: Path, tmp_path: Path) -> None:
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, "asynchronous.partial_rollouts=false"))
    records = Records(tmp_path / "run")
    assert all(len(versions) == 1 for versions in records.versions)
    assert Counter(records.used.values()) == dict.fromkeys(range(6), 2)
    assert 0 < max(records.ages) <= 2


@pytest.mark.opt_in
def test_strict_passes_over_what_grew_too_old_and_counts_it(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["asynchronous.admission=strict", "asynchronous.max_staleness=1", "training.steps=8"]
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, *more), mean_s=1.0, sigma=2.0)
    records = Records(tmp_path / "run")
    passed = [age for age in records.ages if age > 1]
    assert passed, "the scenario has no stale group"
    assert Counter(step for step in records.used.values()).total() == 16 + len(passed)
    assert sum(share > 0 for share in records.metrics["stale_share"]) > 0
    assert max(records.metrics["staleness_max"]) <= 1


@pytest.mark.opt_in
def test_bounded_never_passes_over_any(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["asynchronous.max_staleness=1", "training.steps=8"]
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, *more), mean_s=1.0, sigma=2.0)
    records = Records(tmp_path / "run")
    assert max(records.ages) <= 1 and len(records.used) == 16
    assert max(records.metrics["stale_share"]) == 0


@pytest.mark.opt_in
def test_corrected_uses_what_is_over_the_bound(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["asynchronous.admission=corrected", "asynchronous.max_staleness=1", "training.steps=8"]
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, *more, "algorithm.name=reinforce"), mean_s=1.0, sigma=2.0)
    records = Records(tmp_path / "run")
    assert max(records.ages) > 1 and len(records.used) == 16
    assert max(records.metrics["corrected_share"]) > 0 and "capped" in records.metrics


def test_without_staleness_a_step_uses_what_the_synchronous_one_would(tiny_folder: Path, tmp_path: Path) -> None:
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, "asynchronous.max_staleness=0", "training.steps=3"))
    records = Records(tmp_path / "run")
    assert max(records.ages) == 0
    assert all(int(name.split("/")[2]) == step for name, step in records.used.items())


def test_the_metrics_tell_how_both_sides_wait(simulated: Path) -> None:
    metrics = Records(simulated).metrics
    for name in ("staleness_mean", "staleness_p90", "groups_waiting", "learner_waited_seconds"):
        assert len(metrics[name]) == 6
    assert sum(metrics["learner_waited_seconds"]) > 0
    assert all(value < 1e-3 for value in metrics["drift"])


def test_it_trains_in_real_time_and_the_reward_rises(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["training.steps=16", "training.lr=2e-2", "evaluation.num_tasks=2", "evaluation.every=8"]
    more += ["rollout.group_size=6", "training.checkpoint_every=8", "training.max_drift=1e-2"]
    result = start(small(tiny_folder, tmp_path / "run", *ASYNC, *more), with_latency(parity(), mean_s=0.01))
    records = Records(tmp_path / "run")
    rewards = records.metrics["reward_mean"]
    assert sum(rewards[-4:]) / 4 > sum(rewards[:4]) / 4 + 0.05
    assert max(records.ages) <= 2 and result.after is not None


@pytest.mark.opt_in
def test_groups_that_teach_nothing_are_replaced(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["algorithm.name=dapo", "algorithm.options.dynamic_sampling=true", "rollout.group_size=2"]
    more += ["sampling.max_tokens=1", "training.steps=3"]
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, *more))
    records = Records(tmp_path / "run")
    assert records.metrics["num_groups"] == [2, 2, 2]
    assert len(records.used) > 6


@pytest.mark.opt_in
@pytest.mark.timeout(600)
def test_ranks_learn_from_the_same_schedule_and_one_may_be_lost(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str, *more: str) -> Path:
        simulate(small(tiny_folder, tmp_path / name, *ASYNC, "training.lr=1e-5", *more))
        return tmp_path / name

    alone, both = run("alone"), run("both", "cluster.learner_ranks=2")
    assert Records(both).schedule == Records(alone).schedule
    one, two = (load_file(place / "model" / "model.safetensors") for place in (alone, both))
    assert all(torch.allclose(weight, two[name], rtol=0, atol=1e-5) for name, weight in one.items())
    call, calls = LocalRanks.call, 0

    def interrupted(self: LocalRanks, requests: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 32:
            os.kill(self.pids[0], signal.SIGKILL)
        return call(self, requests)

    monkeypatch.setattr(LocalRanks, "call", interrupted)
    assert final(run("killed", "cluster.learner_ranks=2")) == final(both)
    lost = Records(tmp_path / "killed").metrics["lost_ranks"]  # so far
    assert lost[0] == 0 and lost[-1] == 1


def test_when_every_session_fails_the_run_says_why_and_keeps_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    world = parity()
    broken = replace(world, environment=FlakyEnvironment(world.environment, {Fault.RAISE: 1.0}))
    with pytest.raises(AskesisError, match="every session failed") as caught:
        start(small(tiny_folder, tmp_path / "run", *ASYNC), broken)
    assert "environment/RuntimeError" in str(caught.value.got)
    assert Records(tmp_path / "run").groups == {}
    start(small(tiny_folder, tmp_path / "run", *ASYNC))  # mended
    assert len(Records(tmp_path / "run").used) == 12


@pytest.mark.opt_in
def test_bad_sessions_are_counted_and_the_run_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    world = parity()
    flaky = replace(world, environment=FlakyEnvironment(world.environment, {Fault.RAISE: 0.3}, seed=1))
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, "rollout.max_failed=1.0"), flaky)
    assert sum(Records(tmp_path / "run").metrics["failures"]) > 0


class EndOfTasks:
    """Breaks after a few tasks."""

    def __init__(self) -> None:
        self._inner = make_echo_world(turns=2).tasks

    def task(self, split: str, index: int) -> Task:
        if split == "train" and index > 7:
            raise RuntimeError("the tasks are gone")
        return self._inner.task(split, index)

    def num_tasks(self, split: str) -> int | None:
        return None

    def distinct_tasks(self, split: str, n: int) -> list[Task]:
        return self._inner.distinct_tasks(split, n)


def test_a_worker_that_hangs_is_waited_for_until_it_is_replaced(tiny_folder: Path, tmp_path: Path) -> None:
    whole = [*ASYNC, "asynchronous.partial_rollouts=false"]
    here, ray = (small(tiny_folder, tmp_path, *whole, f"cluster.kind={kind}").recipe for kind in ("local", "ray"))
    assert patience_s(ray) > ray.cluster.timeout_s and patience_s(here) == patience_s(ray) - ray.cluster.timeout_s


def test_what_begins_groups_may_die_and_the_run_ends_with_its_cause(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the tasks are gone"):
        simulate(small(tiny_folder, tmp_path / "run", *ASYNC), replace(parity(), tasks=EndOfTasks()))
    assert RunDir(tmp_path / "run").state()["status"] == "failed"


@pytest.mark.opt_in
def test_a_session_that_hangs_ends_by_its_deadline_and_holds_up_its_own_group(
    tiny_folder: Path, tmp_path: Path
) -> None:
    world = parity()
    hangs = replace(world, environment=FlakyEnvironment(world.environment, {Fault.HANG: 0.2}, seed=3))
    more = ["rollout.call_timeout_s=2", "rollout.max_failed=1.0", "asynchronous.admission=strict"]
    simulate(small(tiny_folder, tmp_path / "run", *ASYNC, *more), hangs, mean_s=0.1)
    records = Records(tmp_path / "run")
    kinds = [m.verdict.error.kind for g in records.groups.values() for m in g.members if m.verdict.error]
    assert "timeout" in kinds
    assert Counter(records.used.values()).keys() == set(range(6))


def _child(folder: str, run: str) -> None:
    torch.set_num_threads(1)
    start(small(folder, Path(run), *ASYNC, "training.checkpoint_every=1"), with_latency(parity(), mean_s=0.02))


@pytest.mark.parametrize("num_kills", [KILLS])
def test_killed_at_random_moments_nothing_is_lost_or_used_twice(
    num_kills: int, tiny_folder: Path, tmp_path: Path
) -> None:
    """kill -9 while groups are in play. Children are forked, so that no time goes into imports."""
    fork = multiprocessing.get_context("fork")
    dice = random.Random(11)
    kills = number = 0
    while kills < num_kills:
        run = tmp_path / f"run{number}"
        number += 1
        known: dict[str, Group] = {}
        used: dict[str, int] = {}
        finished = False
        while not finished:
            child = fork.Process(target=_child, args=(str(tiny_folder), str(run)))
            child.start()
            child.join(dice.uniform(0.1, 1.0) if kills < num_kills else 60.0)
            if child.is_alive():
                os.kill(child.pid or 0, signal.SIGKILL)
                child.join()
                kills += 1
            else:
                assert child.exitcode == 0
                finished = True
            if not (run / "store.db").exists():
                continue
            with Store.open(run / "store.db") as store:  # as a restart would: it may have been killed before its schema
                if not store.runs():
                    continue
            records = Records(run)
            assert records.verified
            assert known.keys() <= records.groups.keys(), "a committed group is lost"
            assert used.items() <= records.used.items(), "a consumption changed"
            known, used = records.groups, records.used
        assert Counter(used.values()) == dict.fromkeys(range(6), 2)
        assert max(records.ages) <= 2
        assert used.keys() | set(records.waiting) == known.keys()
