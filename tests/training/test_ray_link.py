"""What Ray's answers and errors mean. With a real Ray if ASKESIS_TEST_CLUSTER=1."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from askesis.errors import AskesisError, EngineError, RecipeError
from askesis.recipe.places import ClusterSection
from askesis.training.ray_link import RayLink, WorkerLost, first_line
from processes_below import descendants

needs_ray = pytest.mark.skipif(
    os.environ.get("ASKESIS_TEST_CLUSTER") != "1", reason="starts Ray: set ASKESIS_TEST_CLUSTER=1, or make test-cluster"
)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AskesisError, match="not installed") as caught:
        RayLink(ClusterSection())
    assert "askesis[ray]" in str(caught.value)


def test_the_first_line_of_an_error_is_never_empty() -> None:
    assert first_line(ValueError("\n  it broke \nhere")) == "it broke"
    assert first_line(ValueError()) == "ValueError"


def test_a_loss_can_pass_through_context_managers() -> None:
    """They write to the exception, which a frozen one would refuse."""
    from contextlib import contextmanager

    @contextmanager
    def block() -> Iterator[None]:
        yield

    with pytest.raises(WorkerLost, match="gone"), block():
        raise WorkerLost(cause="gone")


class Odd:
    """An actor that fails in every way."""

    def __init__(self, *, fails: bool = False) -> None:
        if fails:
            raise RecipeError("it cannot be made")

    async def ours(self) -> None:
        raise RecipeError("as it was raised")

    async def foreign(self) -> None:
        raise TimeoutError("of its own")

    async def sleep(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def end(self) -> None:
        os._exit(3)


@needs_ray
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(300)
def test_what_an_actor_does_comes_back_as_what_it_is() -> None:
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    ray.cloudpickle.register_pickle_by_value(sys.modules[Odd.__module__])
    link = RayLink(ClusterSection(timeout_s=60.0))

    async def main() -> None:
        make = link.actor(Odd, cpus=0.1, concurrency=10)
        actor = make.remote()
        assert await link.result(actor.sleep.remote(0.0)) == 0.0
        with pytest.raises(RecipeError, match="as it was raised") as caught:
            await link.result(actor.ours.remote())
        assert type(caught.value) is RecipeError
        with pytest.raises(EngineError, match="a worker failed") as failed:
            await link.result(actor.foreign.remote())
        assert "TimeoutError" in str(failed.value)
        with pytest.raises(TimeoutError, match="of its own"):
            await link.result(actor.foreign.remote(), foreign=True)
        began = time.monotonic()
        with pytest.raises(WorkerLost, match=r"no answer within 0\.5 s$"):
            await link.result(actor.sleep.remote(100.0), 0.5)
        assert time.monotonic() - began < 20
        with pytest.raises(WorkerLost):
            await link.result(actor.end.remote())
        with pytest.raises(RecipeError, match="cannot be made"):
            broken: Any = make.remote(fails=True)
            await link.result(broken.sleep.remote(0.0))
        link.kill(actor)
        await link.close()

    try:
        asyncio.run(main())
        assert ray.is_initialized()  # it was not started by the link
    finally:
        ray.shutdown()


LISTENS = """
import asyncio, os, sys
from askesis.recipe.places import ClusterSection
from askesis.training.ray_link import RayLink

class Actor:
    async def here(self):
        return os.getpid()

async def main():
    link = RayLink(ClusterSection())
    await link.result(link.actor(Actor, cpus=0.5).remote().here.remote())
    print("up", flush=True)
    sys.stdin.readline()
    await link.close()

asyncio.run(main())
"""


def listening(pids: set[int]) -> set[str]:
    """Local addresses, as /proc has them, at which these processes listen."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


@needs_ray
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(300)
def test_a_ray_of_our_own_listens_on_loopback_only() -> None:
    driver = subprocess.Popen([sys.executable, "-c", LISTENS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert driver.stdin is not None and driver.stdout is not None
    try:
        while driver.stdout.readline() != "up\n":
            assert driver.poll() is None
        found = listening({driver.pid, *(pid for pid, _ in descendants(driver.pid))})
        driver.communicate("\n", timeout=120)
    finally:
        driver.kill()
    assert found and found <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
