"""A rollout worker plays what it is told, by the weights that it was given, and says which these are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from askesis.engines.vllm.client import Address, Servers
from askesis.environments.hosting import Crew, HostedEnvironment
from askesis.errors import CheckpointError, EngineError
from askesis.policy.loading import Policy
from askesis.policy.voice import digest_of_talk, facts_of
from askesis.recipe import Recipe
from askesis.rollout import GroupSpec
from askesis.store import Group
from askesis.training.groups import group_specs
from askesis.training.published import digest_of, frozen_digest
from askesis.training.rollout_worker import RolloutWorker
from environments_near import Near
from fake_vllm import KEY, fakes
from small_run import parity, small


@pytest.fixture(autouse=True)
def in_the_world_of_small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("askesis.training.rollout_worker.open_world", lambda recipe: parity())


def recipe(folder: Path, tmp_path: Path, *more: str) -> Recipe:
    return small(folder, tmp_path / "run", *more).recipe


def specs(count: int, purpose: str = "train") -> list[GroupSpec]:
    tasks = [parity().tasks.task("train", i) for i in range(count)]
    return group_specs("R", purpose, 0, tasks, 3, seed=0)


def changed(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() + 0.05 for name, parameter in policy.trainable()}


def test_it_says_what_it_holds(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    worker = RolloutWorker(recipe(tiny_folder, tmp_path).model_dump())

    async def main() -> tuple[str, str, str]:
        ready = await worker.ready()
        first = await worker.load(1, dict(tiny.trainable()))
        second = await worker.load(2, changed(tiny))
        return ready, first, second

    ready, first, second = asyncio.run(main())
    assert ready == frozen_digest(tiny) and first == digest_of(tiny) != second


def test_a_group_does_not_depend_on_who_plays_it_or_what_was_played_before(
    tiny: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    values = recipe(tiny_folder, tmp_path).model_dump()

    async def played(worker: RolloutWorker, which: list[int]) -> dict[str, Any]:
        await worker.load(3, dict(tiny.trainable()))
        groups = [(await worker.play(specs(3)[i], 3)).group for i in which]
        for group in groups:
            assert all(call.policy_version == 3 for member in group.members for call in member.trace.calls)
        calls = {g.group_id: [c for m in g.members for c in m.trace.calls] for g in groups}
        return {name: [(c.sampled.tolist(), c.logprobs.tobytes()) for c in mine] for name, mine in calls.items()}

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        one, other = RolloutWorker(values), RolloutWorker(values)
        return await played(one, [0, 1, 2]), await played(other, [2, 0, 1])

    one, other = asyncio.run(main())
    assert one == other


def test_it_refuses_weights_that_it_does_not_have_or_that_do_not_fit(
    tiny: Policy, tiny_folder: Path, tmp_path: Path
) -> None:
    worker = RolloutWorker(recipe(tiny_folder, tmp_path).model_dump())

    async def main() -> None:
        await worker.load(4, dict(tiny.trainable()))
        with pytest.raises(EngineError, match="does not hold") as caught:
            await worker.play(specs(1)[0], 5)
        assert "version 4" in str(caught.value) and "version 5" in str(caught.value)
        with pytest.raises(CheckpointError):
            await worker.load(5, {"another": torch.zeros(2)})

    asyncio.run(main())


def test_evaluation_is_drawn_as_evaluations_are(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    worker = RolloutWorker(recipe(tiny_folder, tmp_path).model_dump())

    async def main() -> Group:
        await worker.load(0, dict(tiny.trainable()))
        return (await worker.play(specs(1, "evaluation")[0], 0)).group

    group = asyncio.run(main())
    assert {act.sampling["temperature"] for m in group.members for act in m.trace.acts} == {0.0}


def test_weights_wait_for_what_is_in_play(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    worker = RolloutWorker(recipe(tiny_folder, tmp_path).model_dump())

    async def main() -> tuple[Group, bool]:
        await worker.load(0, dict(tiny.trainable()))
        playing = asyncio.create_task(worker.play(specs(1)[0], 0))
        await asyncio.sleep(0)
        loading = asyncio.create_task(worker.load(1, changed(tiny)))
        group = (await playing).group
        was_done = loading.done()
        await loading
        return group, was_done

    group, was_done = asyncio.run(main())
    assert not was_done
    assert {c.policy_version for m in group.members for c in m.trace.calls} == {0}


def test_environments_may_live_elsewhere(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    near = Near(1, world=parity)
    worker = RolloutWorker(recipe(tiny_folder, tmp_path).model_dump(), crew=Crew(near))
    assert isinstance(worker._world.environment, HostedEnvironment)

    async def main() -> Group:
        await worker.ready()
        await worker.load(0, dict(tiny.trainable()))
        return (await worker.play(specs(1)[0], 0)).group

    group = asyncio.run(main())
    assert all(member.verdict.reward is not None for member in group.members)
    assert [method for _, method in near.calls].count("reset") == 3


def test_servers_sample_for_a_worker_without_weights(tiny: Policy, tiny_folder: Path, tmp_path: Path) -> None:
    with fakes(tiny, 2) as servers:
        values = recipe(tiny_folder, tmp_path, "engine.kind=vllm", "cluster.kind=ray").model_dump()
        worker = RolloutWorker(values, facts=facts_of(tiny))
        replicas = tuple(Address(index=i, url=s.url, key=KEY, model=tiny.name) for i, s in enumerate(servers))

        async def main() -> tuple[str, str, Group]:
            ready = await worker.ready()
            digest = await worker.load(6, Servers(version=6, replicas=replicas))
            group = (await worker.play(specs(1)[0], 6)).group
            await worker.close()
            return ready, digest, group

        ready, digest, group = asyncio.run(main())
    assert ready == digest_of_talk(tiny.tokenizer) and digest == ""
    assert all(member.verdict.reward is not None for member in group.members)
    assert {c.policy_version for m in group.members for c in m.trace.calls} == {6}
    assert not hasattr(worker._source.policy, "model")
