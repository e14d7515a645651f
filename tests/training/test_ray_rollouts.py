"""Groups played by workers: the run of one process, whoever is lost. With a real Ray if ASKESIS_TEST_CLUSTER=1."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from askesis.errors import AskesisError, EngineError, RecipeError
from askesis.policy.loading import Policy, load_policy
from askesis.recipe import Recipe, load_recipe
from askesis.rollout import GroupSpec
from askesis.store import Group, Store
from askesis.trace import Call, FailureOrigin
from askesis.training import ray_rollouts
from askesis.training.groups import group_specs
from askesis.training.preflight import open_world
from askesis.training.ray_rollouts import RayRollouts, outcomes_of
from askesis.training.rollouts import LocalRollouts, make_rollouts
from askesis.training.rundir import RunDir
from askesis.training.sampler import Sampler
from fake_vllm import fakes
from processes_below import actors_below
from small_run import NANO, final, parity, small, start
from worker_threads import Threads

RAY = ["cluster.kind=ray", "algorithm.options.kl_beta=0.0"]
KILLS = int(os.environ.get("ASKESIS_TEST_KILLS", "3"))

needs_ray = pytest.mark.skipif(
    os.environ.get("ASKESIS_TEST_CLUSTER") != "1", reason="starts Ray: set ASKESIS_TEST_CLUSTER=1, or make test-cluster"
)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> type[Threads]:
    """Workers are threads of this process, in the world of small runs."""

    class Pool(Threads):
        made: ClassVar[list[Threads]] = []

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.made.append(self)

    monkeypatch.setattr(ray_rollouts, "RayWorkers", Pool)
    monkeypatch.setattr("askesis.training.rollout_worker.open_world", lambda recipe: parity())
    return Pool


def run(folder: object, place: Path, *more: str) -> dict[str, bytes]:
    start(small(folder, place, "evaluation.num_tasks=2", "training.steps=2", *more))
    return final(place)[0]


def calls_of(groups: Iterable[Group]) -> list[Call]:
    return [call for group in groups for member in group.members for call in member.trace.calls]


def tokens(groups: list[Group]) -> dict[str, list[list[int]]]:
    return {g.group_id: [c.sampled.tolist() for m in g.members for c in m.trace.calls] for g in groups}


def stored(place: Path, step: int = 0) -> dict[str, list[list[int]]]:
    with Store.open(place / "store.db", read_only=True) as store:
        run_id = store.runs()[0].record.run_id
        return tokens(list(store.groups(run_id, purpose="train", step=step)))


def test_a_run_does_not_depend_on_its_workers(threads: Any, unbroken: Path, tiny_folder: Path, tmp_path: Path) -> None:
    expected = run(tiny_folder, tmp_path / "one", *RAY, "cluster.workers=1")
    threads.losses = frozenset({2, 5, 9})
    found = run(tiny_folder, tmp_path / "three", *RAY, "cluster.workers=3")
    assert found == expected and stored(tmp_path / "three", 1) == stored(tmp_path / "one", 1)
    # Local batches are others, so beyond the first step low-order bits may differ.
    assert list(stored(tmp_path / "one").values()) == list(stored(unbroken).values())
    warnings = RunDir(tmp_path / "three").state().get("warnings", [])
    assert sum("was lost and is replaced: for the test" in text for text in warnings) == 3
    with Store.open(tmp_path / "three" / "store.db", read_only=True) as store:
        metrics = store.metrics(store.runs()[0].record.run_id)
    assert all(value is not None and value < 1e-4 for _, value in metrics["drift"])
    assert metrics["workers_lost"][-1][1] == metrics["groups_repeated"][-1][1] == 3


def test_workers_play_while_the_learner_computes(threads: Any, tiny_folder: Path, tmp_path: Path) -> None:
    more = ["asynchronous.enabled=true", "asynchronous.max_staleness=1", "asynchronous.partial_rollouts=false"]
    threads.losses = frozenset({4})
    start(small(tiny_folder, tmp_path / "run", "evaluation.num_tasks=2", *RAY, "cluster.workers=2", *more))
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        run_id = store.runs()[0].record.run_id
        groups = {g.group_id: g for g in store.groups(run_id, purpose="train")}
        consumed, metrics = store.consumed(run_id), store.metrics(run_id)
    assert sorted(step for name, step in consumed.items() if name in groups) == [0, 0, 1, 1, 2, 2, 3, 3]
    for name, step in consumed.items():
        if name in groups:  # a group ends with the weights that it began with
            versions = {
                v
                for m in groups[name].members
                for b in m.trace.branches()
                for v in b.policy_version[b.sampled].tolist()
            }
            assert versions == {groups[name].step} and 0 <= step - groups[name].step <= 1
    assert all(value is not None and value <= 1 for _, value in metrics["staleness_max"])
    assert metrics["workers_lost"][-1][1] == 1


@pytest.mark.opt_in
def test_a_worker_that_does_not_hold_the_weights_stops_the_run(threads: Any, tiny_folder: Path, tmp_path: Path) -> None:
    threads.spoils = 3  # of the second version
    with pytest.raises(EngineError, match="does not hold the run's weights") as caught:
        run(tiny_folder, tmp_path / "run", *RAY)
    assert "worker" in str(caught.value) and "version 1" in str(caught.value)
    threads.spoils = 0
    assert run(tiny_folder, tmp_path / "run", *RAY) == run(tiny_folder, tmp_path / "whole", *RAY)


@pytest.mark.opt_in
def test_stale_training_weights_reach_workers_when_they_are_renewed(
    threads: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    options = ["training.staleness=2", "training.steps=3"]
    start(small(tiny_folder, tmp_path / "run", "evaluation.num_tasks=2", "evaluation.every=1", *options, *RAY))
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        run_id = store.runs()[0].record.run_id
        versions = {
            purpose: [
                {m.policy_version for g in store.groups(run_id, purpose=purpose, step=step) for m in g.members}
                for step in store.steps(run_id, purpose)
            ]
            for purpose in ("train", "evaluation")
        }
    assert versions == {"train": [{0}, {0}, {2}], "evaluation": [{0}, {1}, {2}, {3}]}


@pytest.mark.opt_in
def test_workers_ask_the_servers_of_the_run(threads: Any, tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    with fakes(tiny, 2) as servers:
        urls = ", ".join(f'"{server.url}"' for server in servers)
        run(tiny_folder, tmp_path / "run", *RAY, "engine.kind=vllm", f"engine.vllm.urls=[{urls}]")
        assert all(server.requests for server in servers)
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        run_id = store.runs()[0].record.run_id
        metrics = store.metrics(run_id)
        versions = [
            {
                c.policy_version
                for g in store.groups(run_id, purpose="train", step=step)
                for m in g.members
                for c in m.trace.calls
            }
            for step in (0, 1)
        ]
    assert versions == [{0}, {1}]
    assert all(value is not None and value < 1e-4 for _, value in metrics["drift"])


def test_single_groups_may_be_asked_for_all_at_once(threads: Any, tiny_folder: Path, tmp_path: Path) -> None:
    recipe = small(tiny_folder, tmp_path / "run", *RAY).recipe
    policy = load_policy(str(tiny_folder), device="cpu")
    heard: list[str] = []

    async def main() -> list[Group]:
        sampler = Sampler(policy, max_batch=8, staleness=1)
        rollouts = make_rollouts(recipe, policy, sampler, parity(), warn=heard.append)
        assert isinstance(rollouts, RayRollouts)
        ended: list[str] = []
        tasks = [
            asyncio.create_task(rollouts.play([spec], on_session=lambda o: ended.append(o.session.id)))
            for spec in specs(recipe, 6)
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        sampler.publish(1)
        groups = [(await task)[0] for task in tasks]
        assert sorted(ended) == sorted(o.session.id for g in groups for o in outcomes_of(g))
        await rollouts.close()
        await sampler.close()
        return groups

    groups = asyncio.run(main())
    assert [g.group_id for g in groups] == [s.group_id for s in specs(recipe, 6)]
    versions = [{c.policy_version for m in g.members for c in m.trace.calls} for g in groups]
    assert versions[0] == {0} and versions[-1] == {1} and all(len(v) == 1 for v in versions)
    assert len(threads.made) == 1 and not heard


def specs(recipe: Recipe, count: int, step: int = 0, world: Any = None) -> list[GroupSpec]:
    source = (world or parity()).tasks
    tasks = [source.task("train", step * count + i) for i in range(count)]
    return group_specs("R", "train", step, tasks, recipe.rollout.group_size, seed=0)


def test_what_a_gradient_run_would_ignore_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"cluster\.keep_sessions"):
        load_recipe(None, ["cluster.kind=ray", "cluster.keep_sessions=false"])
    evolution = ["learner.kind=evolution", "cluster.kind=ray"]
    for option in ("cluster.environment_workers=2", "cluster.groups_per_worker=2"):
        with pytest.raises(RecipeError, match=option.partition("=")[0].replace(".", r"\.")):
            load_recipe(None, [*evolution, option])


def test_without_ray_it_is_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tiny: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for option in ("cluster.kind=ray", "cluster.environment_workers=1"):
        recipe = small(tiny_folder, tmp_path / "run", option).recipe
        with pytest.raises(AskesisError, match="not installed") as caught:
            make_rollouts(recipe, tiny, Sampler(tiny, max_batch=4, staleness=1), parity(), warn=print)
        assert "askesis[ray]" in str(caught.value)


# With a real Ray.


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for all tests of this module; runs join it."""
    import ray

    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    yield
    ray.shutdown()


def nano(*more: str) -> Recipe:
    return load_recipe(None, [*NANO, *more]).recipe


def kill_one(kind: str, chance: random.Random, after_s: float) -> list[int]:
    time.sleep(after_s)
    for pid in chance.sample(found, 1) if (found := actors_below(os.getpid(), kind)) else []:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            return [pid]
    return []


def gone(kind: str, within_s: float = 20.0) -> bool:
    limit = time.monotonic() + within_s
    while actors_below(os.getpid(), kind):
        if time.monotonic() > limit:
            return False
        time.sleep(0.2)
    return True


real = [needs_ray, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]


@pytest.mark.usefixtures("ray_here")
class TestRealRay:
    pytestmark = real

    def test_one_and_three_workers_and_this_process_sample_the_same_tokens(self, tmp_path: Path) -> None:
        found = []
        for number, more in enumerate(([], *(["cluster.kind=ray", f"cluster.workers={n}"] for n in (1, 3)))):
            place = tmp_path / str(number)
            resolved = load_recipe(None, [*NANO, "training.steps=2", f'run.dir="{place}"', *more])
            start(resolved, open_world(resolved.recipe))
            found.append((stored(place), final(place)[0]))
        assert found[0][0] == found[1][0] == found[2][0]
        assert found[1][1] == found[2][1]  # the weights in the end, bit for bit
        assert gone("RolloutActor")

    def test_rollout_workers_killed_at_random_moments(self) -> None:
        recipe = nano("cluster.kind=ray", "cluster.workers=2")
        world, policy = open_world(recipe), load_policy("nano", device="cpu")
        chance, heard, killed = random.Random(1), [], 0

        async def main() -> None:
            nonlocal killed
            sampler = Sampler(policy, max_batch=64, staleness=1)
            rollouts = make_rollouts(recipe, policy, sampler, world, warn=heard.append)
            here = LocalRollouts(nano(), policy, sampler, world)
            wanted = specs(recipe, 4, 0, world)
            alone = [(await here.play([spec]))[0] for spec in wanted]
            for _ in range(KILLS):
                moment = asyncio.to_thread(kill_one, "RolloutActor", chance, chance.uniform(0.0, 1.0))
                groups, victims = await asyncio.gather(rollouts.play(wanted), moment)
                killed += len(victims)
                assert tokens(groups) == tokens(alone)
                assert all(member.verdict.reward is not None for g in groups for member in g.members)
            await rollouts.close()
            await sampler.close()

        asyncio.run(main())
        assert killed >= KILLS // 2 and gone("RolloutActor")
        lost = [text for text in heard if "was lost" in text]
        assert killed - 1 <= len(lost), heard  # one that was killed at the very end may not have been missed

    def test_environment_workers_killed_at_random_moments(self) -> None:
        recipe = nano("cluster.environment_workers=2", "rollout.groups_per_step=8", "rollout.call_timeout_s=200")
        world, policy = open_world(recipe), load_policy("nano", device="cpu")
        chance, heard, killed = random.Random(2), [], 0

        async def main() -> None:
            nonlocal killed
            sampler = Sampler(policy, max_batch=64, staleness=1)
            rollouts = make_rollouts(recipe, policy, sampler, world, warn=heard.append)
            here = LocalRollouts(nano(), policy, sampler, world)
            wanted = specs(recipe, 8, 0, world)
            expected = await here.play(wanted)
            for _ in range(KILLS):
                moment = asyncio.to_thread(kill_one, "EnvironmentHost", chance, chance.uniform(0.0, 1.0))
                groups, victims = await asyncio.gather(rollouts.play(wanted), moment)
                killed += len(victims)
                check(groups, expected)
            check(await rollouts.play(wanted), expected)  # one that was killed at the very end is missed here
            check(await rollouts.play(wanted), expected, whole=True)
            await rollouts.close()
            await sampler.close()

        def check(groups: list[Group], expected: list[Group], *, whole: bool = False) -> None:
            for group, other in zip(groups, expected, strict=True):
                for member, twin in zip(group.members, other.members, strict=True):
                    if member.verdict.reward is None:
                        cause = member.verdict.error
                        assert cause is not None and not whole
                        assert cause.origin in (FailureOrigin.ENVIRONMENT, FailureOrigin.EVALUATOR), cause
                        assert cause.kind == "HostGone" and cause.message, cause
                    else:
                        assert member.verdict == twin.verdict
                        assert [c.sampled.tolist() for c in member.trace.calls] == [
                            c.sampled.tolist() for c in twin.trace.calls
                        ]

        asyncio.run(main())
        assert killed >= KILLS // 2 and gone("EnvironmentHost")
        assert any("environment worker" in text and "was lost" in text for text in heard)

    def test_a_worker_that_hangs_is_replaced(self) -> None:
        recipe = nano("cluster.kind=ray", "cluster.workers=2")
        world, policy, heard = open_world(recipe), load_policy("nano", device="cpu"), []

        async def main() -> list[Group]:
            sampler = Sampler(policy, max_batch=64, staleness=1)
            rollouts = RayRollouts(recipe, policy, sampler, warn=heard.append)
            try:
                await rollouts.play(specs(recipe, 4, 0, world))
                while len(rollouts._dispatcher._workers) < 2:  # both are there
                    await asyncio.sleep(0.1)
                os.kill(actors_below(os.getpid(), "RolloutActor")[0], signal.SIGSTOP)
                rollouts._dispatcher._pool._link._timeout_s = 10.0  # type: ignore[attr-defined]
                return await rollouts.play(specs(recipe, 4, 1, world))
            finally:
                await rollouts.close()
                await sampler.close()

        groups = asyncio.run(main())
        assert all(member.verdict.reward is not None for g in groups for member in g.members)
        assert any("no answer within 10 s" in text for text in heard) and gone("RolloutActor")

    def test_a_whole_run_with_both_kinds_of_workers_killed(self, tmp_path: Path) -> None:
        more = ["training.steps=4", "cluster.kind=ray", "cluster.workers=2", "rollout.missing_members=retry"]
        place = tmp_path / "run"
        resolved = load_recipe(None, [*NANO, f'run.dir="{place}"', *more, "cluster.environment_workers=1"])
        stop, killed = threading.Event(), []

        def kill() -> None:
            chance = random.Random(3)
            while not stop.is_set() and len(killed) < 3:
                if actors_below(os.getpid(), "RolloutActor"):
                    kind = ("RolloutActor", "EnvironmentHost")[len(killed) % 2]
                    killed.extend(kill_one(kind, chance, chance.uniform(0.5, 2.0)))
                    stop.wait(6)
                stop.wait(0.1)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        try:
            start(resolved, open_world(resolved.recipe))
        finally:
            stop.set()
            killer.join()
        assert killed
        state = RunDir(place).state()
        assert state["status"] == "finished"
        assert any("was lost" in text for text in state["warnings"])
        with Store.open(place / "store.db", read_only=True) as store:
            run_id = store.runs()[0].record.run_id
            assert store.verify(heads=place / "heads.jsonl").ok
            names = [g.group_id for g in store.groups(run_id, purpose="train")]
        assert len(names) == len(set(names)) == 16
        assert gone("RolloutActor") and gone("EnvironmentHost")

    def test_an_error_of_ours_comes_back_as_itself(self, tmp_path: Path) -> None:
        recipe = nano("cluster.kind=ray", "cluster.workers=1")
        broken = recipe.model_copy(update={"environment": recipe.environment.model_copy(update={"name": "nowhere"})})
        policy = load_policy("nano", device="cpu")

        async def main() -> None:
            sampler = Sampler(policy, max_batch=64, staleness=1)
            rollouts = RayRollouts(broken, policy, sampler, warn=print)
            try:
                await rollouts.play(specs(recipe, 1, 0, open_world(recipe)))
            finally:
                await rollouts.close()
                await sampler.close()

        with pytest.raises(RecipeError, match="no environment called 'nowhere'"):
            asyncio.run(main())
