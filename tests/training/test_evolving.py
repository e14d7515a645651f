"""Runs that evolve: they learn, resume bit for bit, keep every session in the store, and survive bad ones."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from askesis.environments.fakes import Fault, FlakyEnvironment
from askesis.errors import AlgorithmError, AskesisError
from askesis.learners.evolution import EvolutionLearner
from askesis.recipe import load_recipe
from askesis.rollout import GroupSpec
from askesis.store import Group, Member, Store
from askesis.trace import StopReason, Task, Trace, TraceBuilder, Verdict, VerdictStatus
from askesis.training import evolving
from askesis.training.evolving import merge, scores_of
from askesis.training.rundir import RunDir
from evolving_runs import Mute, final, groups_of, parity, small, start
from small_run import Interrupted


@pytest.fixture(scope="module")
def unbroken(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    start(small(tiny_folder, run))
    return run


def test_a_run_leaves_what_a_gradient_run_leaves(unbroken: Path, tiny_folder: Path) -> None:
    assert {"run.json", "state.json", "store.db", "heads.jsonl", "checkpoints", "model"} <= {
        p.name for p in unbroken.iterdir()
    }
    state = RunDir(unbroken).state()
    assert state["algorithm"]["method"] == "essam" and state["algorithm"]["population"] == 3
    assert [check["passed"] for check in state["self_checks"]] == [True] * 3
    assert set(state["evaluations"]) == {"before", "after"}
    with Store.open(unbroken / "store.db", read_only=True) as store:
        run_id = store.runs()[0].record.run_id
        metrics = store.metrics(run_id)
        for name in ("reward_mean", "accuracy", "update_norm", "displacement_norm", "population_spread"):
            assert [step for step, _ in metrics[name]] == [1, 2, 3]
        groups = list(store.groups(run_id, purpose="train"))
        # Two tasks and two populations of three members in each of three steps.
        assert len(groups) == 12 and all([m.member_index for m in g.members] == [0, 1, 2] for g in groups)
        assert all(len({m.seed for m in g.members}) == 1 for g in groups)  # compared under the same luck
        assert [g.task.key for g in groups[:4]] == [g.task.key for g in groups[:2]] * 2  # both stages, the same tasks
        assert set(store.consumed(run_id).values()) == {0, 1, 2}
        answers = [{tuple(tuple(c.sampled.tolist()) for c in m.trace.calls) for m in g.members} for g in groups]
        assert max(len(found) for found in answers) > 1  # members differ
    assert final(unbroken)[0] != {
        n: t.view(torch.uint8).numpy().tobytes() for n, t in load_file(tiny_folder / "model.safetensors").items()
    }


@pytest.mark.parametrize(
    ("owner", "place", "times"),
    [
        pytest.param(EvolutionLearner, "tell", 2, marks=pytest.mark.opt_in),
        (Store, "append_groups", 3),
        pytest.param(EvolutionLearner, "put_on", 15, marks=pytest.mark.opt_in),
        pytest.param(Store, "consume", 2, marks=pytest.mark.opt_in),
        pytest.param(EvolutionLearner, "put_on", 2, marks=pytest.mark.opt_in),
        pytest.param(EvolutionLearner, "tell", 1, marks=pytest.mark.opt_in),
        pytest.param(EvolutionLearner, "tell", 3, marks=pytest.mark.opt_in),
    ],
)
def test_a_run_that_stops_anywhere_resumes_to_the_same_end(
    owner: type,
    place: str,
    times: int,
    unbroken: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = getattr(owner, place)
    calls = 0

    def stop(self: object, *args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == times:
            raise Interrupted
        return original(self, *args, **kwargs)

    monkeypatch.setattr(owner, place, stop)
    with pytest.raises(Interrupted):
        start(small(tiny_folder, tmp_path / "run"))
    start(small(tiny_folder, tmp_path / "run"))
    assert final(tmp_path / "run") == final(unbroken)


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(["policy.dtype=bfloat16"], marks=pytest.mark.opt_in),
        pytest.param(["policy.lora_rank=2"], marks=pytest.mark.opt_in),
        pytest.param(["learner.evolution.method=es", "sampling.temperature=1.0"], marks=pytest.mark.opt_in),
    ],
)
def test_other_weights_and_sampling_resume_too(more: list[str], tiny_folder: Path, tmp_path: Path) -> None:
    if "lora" in more[0]:
        pytest.importorskip("peft")
    more = [*more, "evaluation.num_tasks=0", "training.steps=2"]
    start(small(tiny_folder, tmp_path / "whole", *more))
    torn = small(tiny_folder, tmp_path / "torn", *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "consume", _after(1, Store.consume))
        with pytest.raises(Interrupted):
            start(torn)
    start(torn)
    assert final(tmp_path / "torn") == final(tmp_path / "whole")


@pytest.mark.parametrize(
    ("count", "more"), [(2, []), pytest.param(6, ["policy.lora_rank=2"], marks=pytest.mark.opt_in)]
)
def test_members_side_by_side_do_what_each_does_alone(
    count: int, more: list[str], unbroken: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    alone = unbroken
    if more:
        pytest.importorskip("peft")
        start(small(tiny_folder, alone := tmp_path / "alone", *more))
    run = tmp_path / "run"
    resolved = small(tiny_folder, run, *more, f"learner.evolution.side_by_side={count}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "consume", _after(1, Store.consume))
        with pytest.raises(Interrupted):
            start(resolved)
    start(resolved)  # and it resumes
    assert groups_of(run) == groups_of(alone)
    assert final(run)[0] == final(alone)[0]


def _after(times: int, original: object) -> object:
    """``original``, which works so many times and then stops the process."""
    calls = 0

    def stop(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls > times:
            raise Interrupted
        return original(*args, **kwargs)  # type: ignore[operator]

    return stop


def _child(folder: str, run: str) -> None:
    torch.set_num_threads(1)
    start(small(folder, Path(run)))


@pytest.mark.opt_in
def test_killed_at_random_moments_it_ends_the_same(unbroken: Path, tiny_folder: Path, tmp_path: Path) -> None:
    run, chance = tmp_path / "run", random.Random(5)
    context = multiprocessing.get_context("fork")
    for _ in range(8):
        child = context.Process(target=_child, args=(str(tiny_folder), str(run)))
        child.start()
        time.sleep(chance.uniform(0.05, 1.2))
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    start(small(tiny_folder, run))
    assert final(run) == final(unbroken)


def test_evolution_learns_what_is_rewarded(tiny_folder: Path, tmp_path: Path) -> None:
    more = [
        "learner.evolution.method=es",
        "learner.evolution.alpha=0.1",
        "training.steps=12",
        "training.checkpoint_every=0",
        "rollout.group_size=16",
        "learner.evolution.side_by_side=8",
        "sampling.temperature=1.0",
        "evaluation.num_tasks=0",
    ]
    start(small(tiny_folder, tmp_path / "run", *more))
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        rewards = [v for _, v in store.metrics(store.runs()[0].record.run_id)["reward_mean"] if v is not None]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:3]) / 3 + 0.05


def test_bad_sessions_stop_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    flaky = replace(parity(), environment=FlakyEnvironment(Mute(), rates={Fault.RAISE: 0.1}, seed=1))
    start(small(tiny_folder, tmp_path / "run", "evaluation.num_tasks=0", "rollout.groups_per_step=4"), flaky)
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        metrics = store.metrics(store.runs()[0].record.run_id)
        assert sum(v or 0 for _, v in metrics["failures"]) > 0


class Failing:
    """An environment's evaluator that always fails."""

    version = "failing/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        raise ValueError("no verdict today")


def test_a_population_without_a_verdict_stops_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    world = replace(parity(), evaluator=Failing())
    with pytest.raises(AskesisError, match="every session failed"):
        start(small(tiny_folder, tmp_path / "run", "evaluation.num_tasks=0"), world)


def group(rewards: Sequence[float | None], *, indices: Sequence[int] | None = None) -> Group:
    def verdict(reward: float | None) -> Verdict:
        if reward is None:
            return Verdict(status=VerdictStatus.PENDING, evaluator="e")
        return Verdict(status=VerdictStatus.OK, evaluator="e", rewards={"r": (reward, 1.0)})

    trace = TraceBuilder([]).finish(StopReason.TERMINATED)
    members = tuple(
        Member(member_index=i, seed=0, trace=trace, verdict=verdict(reward))
        for i, reward in zip(indices or range(len(rewards)), rewards, strict=True)
    )
    return Group(
        group_id="g", run_id="r", purpose="train", step=0, task=parity().tasks.task("train", 0), members=members
    )


def test_members_of_a_population_become_members_of_a_group() -> None:
    played = [[group([0.1]), group([0.2])], [group([None, 0.3], indices=[0, 1]), group([0.4])]]
    specs = [
        GroupSpec(group_id=name, run_id="r", purpose="train", step=0, task=played[0][0].task, size=1, seed=0)
        for name in ("a", "b")
    ]
    first, second = merge(specs, played)
    assert (first.group_id, second.group_id) == ("a", "b")
    assert [(m.member_index, m.verdict.reward) for m in first.members] == [(0, 0.1), (1, None), (3, 0.3)]
    assert [(m.member_index, m.verdict.reward) for m in second.members] == [(0, 0.2), (1, 0.4)]


def test_scores_use_what_the_recipe_lets_them() -> None:
    rest = load_recipe(None, ['learner.kind="evolution"']).recipe
    assert scores_of([group([1.0, 0.0]), group([0.0, 1.0])], rest, size=2) == [0.5, 0.5]
    # The second try of member 1 counts in its place.
    assert scores_of([group([0.1, None, 0.3], indices=[0, 1, 3])], rest, size=2) == [0.1, 0.3]
    drop = load_recipe(None, ['learner.kind="evolution"', "rollout.missing_members=drop_group"]).recipe
    assert scores_of([group([1.0, 0.0]), group([None, 1.0])], drop, size=2) == [1.0, 0.0]
    with pytest.raises(AlgorithmError, match="no task"):
        scores_of([group([None, 1.0])], drop, size=2)


@pytest.mark.opt_in
def test_whoever_evaluates_gets_seeds_and_gives_sessions(
    unbroken: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seam: an evaluator that builds each member's weights by itself, as a remote one would, changes nothing."""
    seen: list[tuple[int, float]] = []

    class Elsewhere(evolving.LocalEvaluator):
        async def evaluate(self, population, specs, *, first=0):  # type: ignore[no-untyped-def]
            seen.extend((m.seed, m.scale) for m in population.members)
            return await super().evaluate(population, specs, first=first)

    monkeypatch.setattr(evolving, "LocalEvaluator", Elsewhere)
    start(small(tiny_folder, tmp_path / "run"))
    assert final(tmp_path / "run") == final(unbroken)
    assert len(set(seen)) == 18
