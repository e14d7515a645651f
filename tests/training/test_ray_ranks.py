"""A learner's ranks in a real Ray: a whole run gives the weights of local ranks. Off unless ASKESIS_TEST_CLUSTER=1."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from askesis.errors import AskesisError
from askesis.recipe import load_recipe
from askesis.training.preflight import open_world
from askesis.training.ray_ranks import RayRanks
from processes_below import actors_below
from small_run import NANO, start

ON_RAY = ["cluster.kind=ray", "cluster.learner_ranks=2", "cluster.workers=1"]

needs_ray = pytest.mark.skipif(
    os.environ.get("ASKESIS_TEST_CLUSTER") != "1", reason="starts Ray: set ASKESIS_TEST_CLUSTER=1, or make test-cluster"
)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AskesisError, match="not installed"):
        RayRanks(load_recipe(None, ON_RAY).recipe.cluster, gpus=0)


def actors() -> list[int]:
    """Processes of the ranks."""
    return actors_below(os.getpid(), "_Actor")


def kill_once() -> Callable[[], None]:
    killed = False

    def kill() -> None:
        nonlocal killed
        if not killed and (found := actors()):
            killed = True
            os.kill(found[0], signal.SIGKILL)

    return kill


def run(place: Path, *more: str) -> dict[str, torch.Tensor]:
    """The weights in the end."""
    resolved = load_recipe(None, [*NANO, "training.steps=6", f'run.dir="{place}"', *more])
    start(resolved, open_world(resolved.recipe))
    return load_file(place / "model" / "model.safetensors")


@pytest.fixture
def ray_ends() -> Iterator[None]:
    """A Ray that ranks started stays until its process ends; other tests start their own."""
    import ray

    yield
    ray.shutdown()


@needs_ray
@pytest.mark.usefixtures("ray_ends")
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.filterwarnings("ignore")  # Ray's own
@pytest.mark.timeout(600)
def test_ranks_in_ray_give_the_run_of_local_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = run(tmp_path / "here", "cluster.learner_ranks=2")
    ray = run(tmp_path / "ray", *ON_RAY)
    for name, weight in here.items():  # workers sample in batches of their own, so low-order bits differ
        assert torch.allclose(weight, ray[name], atol=1e-5), name
    call, kill, calls = RayRanks.call, kill_once(), 0

    def interrupted(self: RayRanks, requests: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 40:
            kill()
        return call(self, requests)  # type: ignore[arg-type]

    monkeypatch.setattr(RayRanks, "call", interrupted)
    killed = run(tmp_path / "killed", *ON_RAY)
    assert calls > 40
    assert all(torch.equal(weight, ray[name]) for name, weight in killed.items())
    assert not actors()
