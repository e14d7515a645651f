"""Groups: order, seeds, failures counted, and the policy for missing members."""

from __future__ import annotations

import asyncio
import gc

import pytest

from askesis.clock import VirtualClock
from askesis.engines import Sampling
from askesis.engines.scripted import ScriptedEngine
from askesis.environments import World
from askesis.environments.fakes import Fault, FlakyEnvironment, make_echo_world
from askesis.gateway import Gateway
from askesis.policy.loading import Policy
from askesis.rollout import GroupSpec, RolloutRunner, RolloutSettings, usable_members
from askesis.store import Group
from askesis.trace import encode


def run(
    policy: Policy, world: World, *, num_groups: int = 3, size: int = 4, settings: RolloutSettings | None = None
) -> list[Group]:
    engine = ScriptedEngine(policy.template, lambda text, seed: f"{seed % 97}", delay_s=0.1)
    gateway = Gateway(engine, policy.template, sampling=Sampling(max_tokens=9), context_length=256)
    clock = VirtualClock()
    runner = RolloutRunner(world, gateway, settings or RolloutSettings(call_timeout_s=2.0), clock=clock)
    specs = [
        GroupSpec(
            group_id=f"r/train/0/{i}",
            run_id="r",
            purpose="train",
            step=0,
            task=world.tasks.task("train", i),
            size=size,
            seed=i,
        )
        for i in range(num_groups)
    ]
    return clock.run(runner.run(specs, policy_version=3))


def flaky(rate: float, fault: Fault = Fault.RAISE) -> World:
    world = make_echo_world()
    return World(
        name=world.name,
        environment=FlakyEnvironment(world.environment, {fault: rate}, seed=4),
        evaluator=world.evaluator,
        tasks=world.tasks,
    )


def test_groups_and_members_come_in_order_with_their_own_seeds(tiny: Policy) -> None:
    groups = run(tiny, make_echo_world())
    assert [g.group_id for g in groups] == ["r/train/0/0", "r/train/0/1", "r/train/0/2"]
    assert [[m.member_index for m in g.members] for g in groups] == [[0, 1, 2, 3]] * 3
    assert len({m.seed for g in groups for m in g.members}) == 12
    assert {m.policy_version for g in groups for m in g.members} == {3}


def test_the_result_does_not_depend_on_how_many_run_at_once(tiny: Policy) -> None:
    wide = run(tiny, make_echo_world())
    narrow = run(tiny, make_echo_world(), settings=RolloutSettings(max_concurrent=1))
    assert [encode(m.trace) for g in wide for m in g.members] == [encode(m.trace) for g in narrow for m in g.members]


def test_bad_sessions_are_counted_and_the_others_are_untouched(tiny: Policy) -> None:
    good = run(tiny, make_echo_world(), num_groups=6)
    some = run(tiny, flaky(0.3), num_groups=6)
    failed = [
        (g, m) for g, members in enumerate(some) for m, one in enumerate(members.members) if one.verdict.reward is None
    ]
    assert 0 < len(failed) < 24
    for g, group in enumerate(some):
        for m, member in enumerate(group.members):
            if (g, m) in failed:
                assert member.verdict.error is not None and member.verdict.error.message
            else:
                assert encode(member.trace) == encode(good[g].members[m].trace)


def test_missing_members(tiny: Policy) -> None:
    groups = run(tiny, flaky(0.3), num_groups=6)
    for group in groups:
        judged = [m for m in group.members if m.verdict.reward is not None]
        assert len(usable_members(group, "use_rest", size=4)) == (len(judged) if len(judged) >= 2 else 0)
        assert len(usable_members(group, "drop_group", size=4)) == (4 if len(judged) == 4 else 0)
    retried = run(tiny, flaky(0.3), num_groups=6, settings=RolloutSettings(call_timeout_s=2.0, missing_members="retry"))
    extra = sum(len(g.members) for g in retried) - 24
    assert extra == sum(m.verdict.reward is None for g in groups for m in g.members)
    assert all(len({m.member_index for m in g.members}) == len(g.members) for g in retried)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.GARBAGE])
def test_total_failure_is_still_a_result(tiny: Policy, fault: Fault) -> None:
    groups = run(tiny, flaky(1.0, fault))
    assert all(m.verdict.reward is None for g in groups for m in g.members)
    assert all(usable_members(g, "use_rest", size=4) == () for g in groups)


def test_a_single_member_group_keeps_its_member(tiny: Policy) -> None:
    (group,) = run(tiny, make_echo_world(), num_groups=1, size=1)
    assert len(usable_members(group, "use_rest", size=1)) == 1
    assert usable_members(group, "use_rest", size=2) == ()


@pytest.mark.parametrize("frozen_before", [False, True])
def test_a_rollout_leaves_the_garbage_collector_as_it_was(tiny: Policy, frozen_before: bool) -> None:
    gc.unfreeze()
    if frozen_before:
        gc.freeze()
    count = gc.get_freeze_count()
    try:
        run(tiny, make_echo_world(), num_groups=1, size=1)
        assert (gc.get_freeze_count() > 0) is frozen_before
        assert gc.get_freeze_count() <= count
    finally:
        gc.unfreeze()


def test_cancelling_a_rollout_closes_every_session(tiny: Policy) -> None:
    world = make_echo_world()
    opened: set[str] = set()
    closed: set[str] = set()

    class Watched:
        capabilities = world.environment.capabilities

        async def reset(self, session: object) -> object:
            opened.add(session.id)  # type: ignore[attr-defined]
            await asyncio.sleep(1e5)
            raise AssertionError("cancelled before")

        async def close(self, session: object) -> None:
            closed.add(session.id)  # type: ignore[attr-defined]

    async def main() -> None:
        engine = ScriptedEngine(tiny.template, lambda text, seed: "x")
        gateway = Gateway(engine, tiny.template, sampling=Sampling(), context_length=256)
        watched = World(name="w", environment=Watched(), evaluator=world.evaluator, tasks=world.tasks)  # type: ignore[arg-type]
        runner = RolloutRunner(watched, gateway, RolloutSettings(call_timeout_s=1e6))
        spec = GroupSpec(
            group_id="g", run_id="r", purpose="train", step=0, task=world.tasks.task("train", 0), size=5, seed=0
        )
        task = asyncio.create_task(runner.run([spec], policy_version=0))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    VirtualClock().run(main())
    assert len(opened) == 5 and closed == opened
