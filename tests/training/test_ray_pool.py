"""Workers in a real Ray: the run of one process, also when they are killed. Off unless ASKESIS_TEST_CLUSTER=1."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from askesis.errors import AskesisError
from askesis.recipe import load_recipe
from askesis.training.preflight import open_world
from askesis.training.ray_pool import RayPool
from askesis.training.remote import Base
from evolving_runs import final, groups_of, small, start

EVOLVES = ["learner.kind=evolution", "cluster.kind=ray"]

needs_ray = pytest.mark.skipif(
    os.environ.get("ASKESIS_TEST_CLUSTER") != "1", reason="starts Ray: set ASKESIS_TEST_CLUSTER=1, or make test-cluster"
)


def test_without_ray_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(AskesisError, match="not installed") as caught:
        RayPool(load_recipe(None, EVOLVES).recipe, "run", Base({}, {}, {}))
    assert "askesis[ray]" in str(caught.value)


@needs_ray
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_no_cluster_at_an_address() -> None:
    recipe = load_recipe(None, [*EVOLVES, "cluster.address=127.0.0.1:1"]).recipe
    with pytest.raises(AskesisError, match="no Ray cluster"):
        RayPool(recipe, "run", Base({}, {}, {}))


def run(place: Path, *more: str) -> tuple[dict[str, bytes], object]:
    known = ["environment.family=decimal_chain_sum", "evaluation.num_tasks=0", "sampling.temperature=1.0"]
    resolved = small("nano", place, *known, "sampling.max_tokens=48", "training.steps=4", *more)
    start(resolved, open_world(resolved.recipe))
    return final(place)[0], groups_of(place)


def workers() -> list[int]:
    """Processes of Ray's actors."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(b"ray::PopulationWorker"):
                found.append(int(folder.name))
    return found


def kill(times: int, chance: random.Random, killed: list[int]) -> None:
    while len(killed) < times:
        time.sleep(chance.uniform(0.2, 1.0))
        for pid in chance.sample(found, 1) if (found := workers()) else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                time.sleep(8)  # until the next one is there


@needs_ray
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_real_workers_give_the_run_of_one_process_whoever_is_killed(tmp_path: Path) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill, args=(2, random.Random(1), killed), daemon=True)
    killer.start()
    found = run(tmp_path / "remote", "cluster.kind=ray")
    assert killed
    assert found == run(tmp_path / "local")
    assert not workers()
