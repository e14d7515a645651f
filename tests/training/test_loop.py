"""The training loop, end to end on a tiny model: resumable bit for bit, checked by itself, never stopped by one bad
session.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from askesis.algorithms import PRESETS, build
from askesis.environments import World
from askesis.environments.fakes import Fault, FlakyEnvironment, FlakyEvaluator, make_echo_world
from askesis.errors import AskesisError, CheckpointError, SelfCheckError
from askesis.store import Store
from askesis.trace import Task, Trace, Verdict, VerdictStatus
from askesis.training import loop
from askesis.training.rundir import RunDir
from small_run import Interrupted, ParityEvaluator, final, parity, small, start


def test_a_run_leaves_what_it_promises(unbroken: Path, tiny_folder: Path) -> None:
    assert {"run.json", "state.json", "store.db", "heads.jsonl", "checkpoints", "model"} <= {
        p.name for p in unbroken.iterdir()
    }
    with Store.open(unbroken / "store.db", read_only=True) as store:
        (entry,) = store.runs()
        assert entry.status == "finished"
        metrics = store.metrics(entry.record.run_id)
        assert [step for step, _ in metrics["reward_mean"]] == [1, 2, 3, 4]
        drift = [value for _, value in metrics["drift"]]
        assert all(value is not None and value < 1e-4 for value in drift)
        groups = list(store.groups(entry.record.run_id, purpose="train"))
        assert len(groups) == 8 and all(len(g.members) == 3 for g in groups)
        assert set(store.consumed(entry.record.run_id).values()) == {0, 1, 2, 3}
        assert [m.policy_version for g in groups for m in g.members] == [v for v in range(4) for _ in range(6)]
    assert final(unbroken)[0] != {
        n: t.numpy().tobytes() for n, t in load_file(tiny_folder / "model.safetensors").items()
    }


def test_the_same_recipe_gives_the_same_run(unbroken: Path, tiny_folder: Path, tmp_path: Path) -> None:
    start(small(tiny_folder, tmp_path / "run"))
    assert final(tmp_path / "run") == final(unbroken)


@pytest.mark.parametrize(
    ("place", "times"),
    [
        ("_checkpoint", 1),
        ("_record", 3),
        ("_samples", 3),
        *(
            pytest.param(*stop, marks=pytest.mark.opt_in)
            for stop in (("_checkpoint", 3), ("_record", 1), ("_samples", 1), ("_self_check", 1), ("_self_check", 3))
        ),
    ],
)
def test_a_run_that_stops_anywhere_resumes_to_the_same_end(
    place: str, times: int, unbroken: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    original = getattr(loop._Trainer, place)
    calls = 0

    def stop(self: object, *args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == times:
            raise Interrupted
        return original(self, *args, **kwargs)

    monkeypatch.setattr(loop._Trainer, place, stop)
    with pytest.raises(Interrupted):
        start(small(tiny_folder, run))
    start(small(tiny_folder, run))
    assert final(run) == final(unbroken)


def _child(folder: str, run: str) -> None:
    torch.set_num_threads(1)
    start(small(folder, Path(run)))


@pytest.mark.parametrize("num_kills", [2, pytest.param(20, marks=pytest.mark.opt_in)])
def test_killed_at_random_moments_it_ends_the_same(
    num_kills: int, unbroken: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """kill -9 during sampling, update, checkpoint or store write. Children are forked, so that no time goes into
    imports.
    """
    fork = multiprocessing.get_context("fork")
    dice = random.Random(7)

    def run_child(run: Path, limit_s: float | None) -> bool:
        child = fork.Process(target=_child, args=(str(tiny_folder), str(run)))
        child.start()
        child.join(limit_s)
        if child.is_alive():
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
            return False
        assert child.exitcode == 0
        return True

    began = time.monotonic()
    assert run_child(tmp_path / "timed", None)
    whole_s = time.monotonic() - began
    kills = 0
    for number in range(40):
        run = tmp_path / f"run{number}"
        while kills < num_kills and not run_child(run, dice.uniform(0.02, whole_s)):
            kills += 1
        assert run_child(run, None)
        assert final(run) == final(unbroken)
        if kills == num_kills:
            return
    raise AssertionError(f"only {kills} of {num_kills} kills struck")


def test_a_finished_run_trains_no_more(unbroken: Path, tiny_folder: Path) -> None:
    before = final(unbroken)
    start(small(tiny_folder, unbroken))
    assert final(unbroken) == before


def flaky(world: World, rates: dict[Fault, float]) -> World:
    return World(
        name=world.name,
        environment=FlakyEnvironment(world.environment, rates, seed=1),
        evaluator=FlakyEvaluator(world.evaluator, rates, seed=2),
        tasks=world.tasks,
    )


def test_bad_sessions_are_counted_and_the_run_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["rollout.call_timeout_s=1", "rollout.group_size=8", "rollout.max_failed=1.0"]
    resolved = small(tiny_folder, tmp_path / "run", *more)
    rates = dict.fromkeys((Fault.RAISE, Fault.GARBAGE, Fault.NAN, Fault.CRASH_CLOSE), 0.05) | {Fault.HANG: 0.01}
    start(resolved, flaky(parity(), rates))
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        (entry,) = store.runs()
        run_id = entry.record.run_id
        members = [m for g in store.groups(run_id) for m in g.members]
        failed = [m for m in members if m.verdict.reward is None]
        assert 3 < len(failed) < len(members) / 2
        assert all(m.verdict.error is not None and m.verdict.error.message for m in failed)
        assert len({m.verdict.error.kind for m in failed if m.verdict.error}) >= 3
        assert sum(value or 0 for _, value in store.metrics(run_id)["failures"]) > 0


def test_when_every_session_fails_the_run_says_why(tiny_folder: Path, tmp_path: Path) -> None:
    resolved = small(tiny_folder, tmp_path / "run")
    with pytest.raises(AskesisError, match="every session failed") as caught:
        start(resolved, flaky(parity(), {Fault.RAISE: 1.0}))
    assert "environment/RuntimeError" in str(caught.value.got)
    assert RunDir(tmp_path / "run").state()["status"] == "failed"


def test_a_step_in_which_most_sessions_fail_stops_the_run_until_it_is_allowed(
    tiny_folder: Path, tmp_path: Path
) -> None:
    more = ["rollout.group_size=24", "training.steps=1", "evaluation.num_tasks=0"]
    with pytest.raises(AskesisError, match="of 48 sessions failed") as caught:
        start(small(tiny_folder, tmp_path / "run", *more), flaky(parity(), {Fault.RAISE: 0.5}))
    assert "environment/RuntimeError" in str(caught.value.got) and "rollout.max_failed" in str(caught.value)
    resolved = small(tiny_folder, tmp_path / "run", *more, "rollout.max_failed=1.0")
    start(resolved, flaky(parity(), {Fault.RAISE: 0.5}))  # the same run goes on
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        ((_, share),) = store.metrics(store.runs()[0].record.run_id)["failed_share"]
    assert share is not None and 0.5 < share < 1


def test_a_prompt_longer_than_the_context_is_said_at_once(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AskesisError, match="every session failed") as caught:
        start(small(tiny_folder, tmp_path / "run", "sampling.max_context=12"))
    assert "ContextOverflow" in str(caught.value.got) and "fewer than 12" in str(caught.value)


def test_drift_stops_the_run(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = small(tiny_folder, tmp_path / "run", "training.max_drift=1e-12")
    with pytest.raises(SelfCheckError, match="log-probabilities"):
        start(resolved)


def test_a_store_that_does_not_belong_to_the_checkpoint_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(small(tiny_folder, run))
    (run / "store.db").unlink()
    with pytest.raises(CheckpointError, match="older than the checkpoint"):
        start(small(tiny_folder, run))


EVERY_TIME = {"grpo", "dapo", "gspo", "ppo", "dgpo_hellinger", "vespo", "gigpo_aem"}
"""Presets that take different ways through a step; every one learns in tests/algorithms/test_learning.py."""
ALONE = [p.name for p in PRESETS if not build(p.name).has_states]  # the others are in test_oases.py


@pytest.mark.parametrize(
    "name", [name if name in EVERY_TIME else pytest.param(name, marks=pytest.mark.opt_in) for name in ALONE]
)
def test_every_preset_trains(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    beta = 0.02 if name in ("reinforce", "rloo", "grpo") else 0.0
    more = ["training.steps=1", f"algorithm.name={name}", f"algorithm.options.kl_beta={beta}"]
    more += ["learner.critic.kind=linear"] * build(name).has_critic
    result = start(small(tiny_folder, tmp_path / "run", *more))
    assert result.after is not None and result.after.n == 4


def versions(run: Path) -> list[int]:
    with Store.open(run / "store.db", read_only=True) as store:
        (entry,) = store.runs()
        return [g.members[0].policy_version for g in store.groups(entry.record.run_id, purpose="train")][::2]


STALE = ["training.staleness=3", "training.steps=7", "training.checkpoint_every=2", "training.epochs=2"]


@pytest.fixture(scope="module")
def stale(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run from stale samples that went through without an interruption."""
    run = tmp_path_factory.mktemp("stale") / "run"
    start(small(tiny_folder, run, *STALE))
    return run


def test_stale_samples_come_from_weights_renewed_every_few_steps(stale: Path) -> None:
    assert versions(stale) == [0, 0, 0, 3, 3, 3, 6]
    with Store.open(stale / "store.db", read_only=True) as store:
        metrics = store.metrics(store.runs()[0].record.run_id)
    shares = [value for _, value in metrics["ess_sequence"]]
    assert [value is None for _, value in metrics["drift"]] == [v % 3 != 0 for v in range(7)]
    assert all(value is not None and 0 < value <= 1 for value in shares)


@pytest.mark.parametrize(
    "times", [pytest.param(2, marks=pytest.mark.opt_in), 3, pytest.param(6, marks=pytest.mark.opt_in)]
)
def test_a_stale_run_resumes_to_the_same_end(
    times: int, stale: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = loop._Trainer._record, 0

    def stop(self: loop._Trainer, metrics: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == times:
            raise Interrupted
        original(self, metrics)

    monkeypatch.setattr(loop._Trainer, "_record", stop)
    with pytest.raises(Interrupted):
        start(small(tiny_folder, tmp_path / "run", *STALE))
    start(small(tiny_folder, tmp_path / "run", *STALE))
    assert final(tmp_path / "run") == final(stale)


class ConstantAtFirst(ParityEvaluator):
    """One reward for all answers to a task, until the task has been replaced."""

    def __init__(self, first: int) -> None:
        self._plain = {make_echo_world(turns=2).tasks.task("train", i).key for i in range(first)}

    async def score(self, trace: Trace, task: Task) -> Verdict:
        if task.key in self._plain:
            return Verdict(status=VerdictStatus.OK, evaluator=self.version, rewards={"even": (1.0, 1.0)})
        return await super().score(trace, task)


def test_dynamic_sampling_replaces_groups_that_teach_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    world = parity()
    flat = World(name="flat", environment=world.environment, evaluator=ConstantAtFirst(2), tasks=world.tasks)
    more = ["training.steps=1", "algorithm.name=dapo", "algorithm.options.dynamic_sampling=true"]
    start(small(tiny_folder, tmp_path / "run", *more), flat)
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        run_id = store.runs()[0].record.run_id
        groups = list(store.groups(run_id, purpose="train"))
        trained = store.metrics(run_id)["num_groups"]
    assert len(groups) == 4 and [value for _, value in trained] == [2]
    assert len({g.task.key for g in groups}) == 4


def test_tensorboard_files_are_written(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    start(small(tiny_folder, tmp_path / "run", "training.tensorboard=true", "training.steps=2"))
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
