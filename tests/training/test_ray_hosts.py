"""Environments in actors of Ray. With a real Ray if ASKESIS_TEST_CLUSTER=1."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from askesis.environments import Done, Turn, World, check_environment
from askesis.environments.fakes import EchoEnvironment, make_echo_world
from askesis.environments.hosting import Crew, HostGone, hosted
from askesis.errors import AskesisError, EnvironmentFault
from askesis.gateway import Session
from askesis.recipe import load_recipe
from askesis.recipe.places import ClusterSection
from askesis.trace import Message
from askesis.training.preflight import open_world
from askesis.training.ray_hosts import RayHosts, make_crew
from environments_near import session

SECTION = ClusterSection(environment_workers=2, cpus_per_environment_worker=0.5)
SAY = {"agent": Message(role="assistant", content="one")}

needs_ray = pytest.mark.skipif(
    os.environ.get("ASKESIS_TEST_CLUSTER") != "1", reason="starts Ray: set ASKESIS_TEST_CLUSTER=1, or make test-cluster"
)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AskesisError, match="not installed"):
        make_crew(load_recipe(None, ["cluster.environment_workers=1"]).recipe)


class Harsh(EchoEnvironment):
    """Does what the task's first word says."""

    async def step(self, session: Session, acts: Mapping[str, Message]) -> Turn | Done:
        what = session.task.payload["words"][0]
        if what == "exit":
            os._exit(5)
        if what == "block":
            time.sleep(60.0)
        if what == "raise":
            raise ValueError("a fault of its own")
        return await super().step(session, acts)


def harsh() -> World:
    return replace(make_echo_world(), environment=Harsh())


@needs_ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
class TestRealRay:
    def test_a_hosted_world_keeps_every_promise_of_the_world(self) -> None:
        crew = Crew(RayHosts(SECTION, make_echo_world))
        report = check_environment(hosted(make_echo_world(), crew), num_tasks=2, call_timeout_s=120.0)
        asyncio.run(crew._hosts.close())
        assert report.ok, str(report)

    def test_a_reasoning_world_is_the_same_there(self) -> None:
        recipe = load_recipe(None, ["environment.family=decimal_chain_sum", "cluster.environment_workers=1"]).recipe
        crew = make_crew(recipe)
        report = check_environment(hosted(open_world(recipe), crew), num_tasks=2, call_timeout_s=120.0)
        asyncio.run(crew._hosts.close())
        assert report.ok, str(report)

    def test_crashes_blocks_and_faults_cost_their_own_sessions(self) -> None:
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[Harsh.__module__])

        async def main() -> None:
            crew = Crew(RayHosts(SECTION, harsh), sign_s=3.0)
            world = hosted(harsh(), crew).environment
            await crew.start()
            one, two, three, four = (session(i, [w, w]) for i, w in enumerate(("exit", "word", "raise", "block")))
            for opened in (one, two, three, four):
                await world.reset(opened)  # 0 and 2 on one host, 1 and 3 on the other
            with pytest.raises(ValueError, match="a fault of its own"):
                await world.step(three, SAY)
            with pytest.raises(HostGone) as gone:
                await world.step(one, SAY)
            assert gone.value.got
            with pytest.raises(HostGone):
                await world.step(three, SAY)
            assert isinstance(await world.step(two, SAY), Turn)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await world.step(four, SAY)
            while crew.lost < 2:
                await asyncio.sleep(0.2)
            with pytest.raises(EnvironmentFault):
                await world.step(two, SAY)
            for opened in (one, two, three, four):
                await world.close(opened)
            assert isinstance(await world.reset(session(9)), Turn)
            notes: Any = crew.take_notes()
            assert len(notes) == 2 and "no answer within 3 s" in notes[1]
            await crew.close()

        asyncio.run(main())
