"""``kill -9`` of everything that a run is made of, at random moments: ``make test-cluster``.

Each time the run goes on, or the same command resumes it; nothing is consumed twice, nothing is lost, no process stays
behind, and the cause is said within twice the time that a step takes without it. docs/reliability.md has the table.
Drivers are forks of this process, so that no time goes into imports.
"""

from __future__ import annotations

import ctypes
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from askesis.environments import World
from askesis.environments.program.spec import Command, Program
from askesis.errors import AskesisError
from askesis.store import Store
from askesis.training.rundir import RunDir
from cluster.fake_server import write_interpreter
from cluster.postgres import PASSWORD, PostgresServer, ServerMissing, running_server
from small_run import final, parity, small, start

KILLS = int(os.environ.get("ASKESIS_TEST_KILLS", "2"))
_PR_SET_CHILD_SUBREAPER = 36
_STRAY_S = 15.0
"""Until a process whose owner was killed has ended."""
_HURRY_S = 5.0
"""Added to twice a step, for a machine that is busy with other things."""

pytestmark = [
    pytest.mark.skipif(not os.environ.get("ASKESIS_TEST_CLUSTER"), reason="make test-cluster"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
    pytest.mark.timeout(1500),
]


def processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of each living process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = (int(parent), (folder / "cmdline").read_bytes().decode().replace("\0", " "))
    return found


def below(ancestor: int) -> dict[int, str]:
    """Living descendants of a process, with their command lines; databases are somebody else's business."""
    known, found = processes(), {ancestor: ""}
    while more := {pid: line for pid, (parent, line) in known.items() if parent in found and pid not in found}:
        found |= more
    del found[ancestor]
    return {pid: line for pid, line in found.items() if "postgres" not in line}


@pytest.fixture(autouse=True)
def nothing_stays_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Orphans of what is killed come to us, where they are seen. A database would not start beside a zombie of its own,
    and a driver that only uses one has no children.
    """
    if "database" in request.fixturenames:
        yield
        return
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = below(os.getpid())
    yield
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    deadline = time.monotonic() + _STRAY_S
    while strays := {pid: line for pid, line in below(os.getpid()).items() if pid not in before}:
        assert time.monotonic() < deadline, strays
        time.sleep(0.05)


@dataclass
class Driver:
    """Training in a process of its own."""

    folder: Path
    run: Path
    options: tuple[str, ...] = ()
    world: World | None = None

    def start(self) -> None:
        self._process = multiprocessing.get_context("fork").Process(target=self._train)
        self._process.start()

    def _train(self) -> None:
        torch.set_num_threads(1)
        self.run.parent.mkdir(exist_ok=True)
        logging.basicConfig(filename=self._log, format="%(created)f %(message)s", force=True)
        start(small(self.folder, self.run, *self.options), self.world)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def _log(self) -> Path:
        return self.run.with_suffix(".log")

    def ends_within(self, limit_s: float | None) -> bool:
        self._process.join(limit_s)
        return not self._process.is_alive()

    @property
    def status(self) -> int | None:
        return self._process.exitcode

    def runs_on(self, limit_s: float) -> bool:
        """Is it still at work this long after it has opened its store?"""
        while RunDir(self.run).state().get("status") != "running":
            if self.ends_within(0.01):
                return False
        return not self.ends_within(limit_s)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self._process.join()

    def finish(self) -> None:
        """Until it has ended as it should; begun anew when it stopped with a cause."""
        for _ in range(20):
            self.start()
            assert self.ends_within(300)
            if self.status == 0:
                return
            assert RunDir(self.run).state()["error"]
        raise AssertionError(RunDir(self.run).state()["error"])

    def said(self, text: str) -> list[float]:
        """When something was said."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [float(line.split()[0]) for line in lines if text in line]

    @property
    def step(self) -> int:
        """Steps that it has consumed, as the folder says."""
        with suppress(AskesisError, OSError, ValueError):
            return int(RunDir(self.run).state().get("step", 0))
        return 0


def check_once(run: Path, steps: int, members: int = 3) -> Counter[str]:
    """Every step has its groups, each was consumed by its own step and by no other; kinds of failure."""
    with Store.open(RunDir(run).store_target, read_only=True) as store:
        assert store.verify(heads=run / "heads.jsonl").ok
        (entry,) = store.runs()
        assert entry.status == "finished"
        groups = list(store.groups(entry.record.run_id, purpose="train"))
        assert sorted(g.step for g in groups) == sorted([*range(steps)] * 2)
        assert all(len({m.member_index for m in g.members}) == len(g.members) >= members for g in groups)
        consumed = store.consumed(entry.record.run_id)
        assert {g.group_id: g.step for g in groups} == {name: consumed[name] for name in consumed}
        steps_seen = [step for step, _ in store.metrics(entry.record.run_id)["reward_mean"]]
        assert steps_seen == [*range(1, steps + 1)]
        errors = [m.verdict.error for g in groups for m in g.members if m.verdict.error is not None]
        return Counter(f"{error.origin.value}/{error.kind}" for error in errors)


def slowest_step(run: Path) -> float:
    with Store.open(RunDir(run).store_target, read_only=True) as store:
        return max(value or 0.0 for _, value in store.metrics(store.runs()[0].record.run_id)["step_seconds"])


def shown_in_time(kills: list[float], said: list[float], bound_s: float) -> list[float]:
    """Seconds from each cause that was said back to the kill before it."""
    found = [min(moment - kill for kill in kills if kill <= moment) for moment in said]
    assert all(seconds <= bound_s for seconds in found), (found, bound_s)
    return found


# The driver.

SCRIPT = """
import json, os, sys, urllib.request
body = {"model": os.environ["OPENAI_MODEL"], "messages": [{"role": "user", "content": sys.stdin.read()}]}
request = urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
    {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
print(json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
"""


def by_program(folder: Path, seconds: float = 0.0) -> World:
    """Sessions played by a script in a process of its own, which has a child."""
    script = folder / "agent.py"
    script.write_text(
        f"import time, subprocess\nchild = subprocess.Popen(['sleep', '60'])\n{SCRIPT}time.sleep({seconds})"
    )
    agent = Command(argv=("python", str(script)), preload=("json", "urllib.request", "subprocess"))
    return replace(parity(), program=Program(agent=agent))


def test_the_driver_with_programs_under_way(tiny_folder: Path, tmp_path: Path) -> None:
    world, dice = by_program(tmp_path), random.Random(1)
    steps = ("training.steps=2",)
    unbroken = Driver(tiny_folder, tmp_path / "unbroken", steps, world)
    began = time.monotonic()
    unbroken.finish()
    whole_s, kills, number = time.monotonic() - began, 0, 0
    while kills < KILLS:
        number += 1
        driver = Driver(tiny_folder, tmp_path / f"run{number}", steps, world)
        driver.start()
        while kills < KILLS and not driver.ends_within(dice.uniform(0.05, whole_s)):
            driver.kill()
            kills += 1
            driver.start()
        assert driver.ends_within(300) and driver.status == 0
        assert final(driver.run) == final(unbroken.run)
        check_once(driver.run, 2)


# The database.


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresServer]:
    """A server that may be killed."""
    pytest.importorskip("psycopg")
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    try:
        with running_server() as server:
            yield server
    except ServerMissing as error:
        pytest.skip(str(error))


def on(server: PostgresServer, name: str) -> str:
    server.sql(f"CREATE DATABASE {name}")
    return f'store.url="{server.url(name, password=None)}"'


def test_the_database_comes_back(tiny_folder: Path, tmp_path: Path, database: PostgresServer) -> None:
    """The driver waits for it, says so, and goes on."""
    dice, kills, said = random.Random(2), [], 0
    unbroken = Driver(tiny_folder, tmp_path / "unbroken", (on(database, "unbroken"),))
    began = time.monotonic()
    unbroken.finish()
    whole_s, number = time.monotonic() - began, 0
    bound_s = 2 * slowest_step(unbroken.run) + _HURRY_S
    while len(kills) < KILLS:
        number += 1
        driver = Driver(tiny_folder, tmp_path / f"run{number}", (on(database, f"run{number}"),))
        driver.start()
        while len(kills) < KILLS and driver.runs_on(dice.uniform(0.05, whole_s / 2)):
            kills.append(time.time())
            database.kill()
            time.sleep(dice.uniform(0, 1.0))
            database.restart_after_kill()
        assert driver.ends_within(300)
        assert driver.status == 0, RunDir(driver.run).state().get("error")
        assert final(driver.run) == final(unbroken.run)
        check_once(driver.run, 4)
        said += len(shown_in_time(kills, driver.said("is not there ("), bound_s))
    print(f"{len(kills)} restarts, {said} of them met a driver that wanted something")


def test_the_database_stays_away(tiny_folder: Path, tmp_path: Path, database: PostgresServer) -> None:
    """After ``store.outage_s`` the run stops with the cause, and the same command resumes it."""
    dice, stopped, number = random.Random(3), 0, 0
    unbroken = Driver(tiny_folder, tmp_path / "unbroken", (on(database, "unbroken"),))
    began = time.monotonic()
    unbroken.finish()
    whole_s = time.monotonic() - began
    bound_s = 2 * slowest_step(unbroken.run) + _HURRY_S
    while stopped < max(2, KILLS // 4):
        number += 1
        driver = Driver(tiny_folder, tmp_path / f"run{number}", (on(database, f"run{number}"), "store.outage_s=0.3"))
        driver.start()
        if not driver.runs_on(dice.uniform(0.05, whole_s / 2)):
            continue
        database.kill()
        began = time.monotonic()
        assert driver.ends_within(bound_s), "it waits for a database that does not come"
        database.restart_after_kill()
        if driver.status != 0:
            stopped += 1
            assert "the database server is not there" in RunDir(driver.run).state()["error"]
            driver.finish()
        assert final(driver.run) == final(unbroken.run)
        check_once(driver.run, 4)


# A replica of the engine.


def test_a_replica_of_the_engine(tiny_folder: Path, tmp_path: Path) -> None:
    """Its sessions move to the other one; it is started again with the next weights. Nothing fails."""
    dice, steps = random.Random(4), 3 + 3 * KILLS
    options = (
        *("engine.kind=vllm", f'engine.vllm.python="{write_interpreter(tmp_path)}"', "engine.vllm.replicas=2"),
        *("engine.vllm.restarts=1000", f"training.steps={steps}", "evaluation.num_tasks=0"),
    )
    driver = Driver(tiny_folder, tmp_path / "run", options)
    driver.start()
    kills: list[float] = []
    for number in range(KILLS):
        while driver.step < 3 * number + 1:
            assert not driver.ends_within(0.02), RunDir(driver.run).state().get("error")
        time.sleep(dice.uniform(0, 0.3))
        servers = {pid: line for pid, line in below(driver.pid).items() if "fake_server.py" in line}
        kills.append(time.time())
        os.kill(dice.choice(sorted(servers)), signal.SIGKILL)  # a server, or the keeper that it dies with
    assert driver.ends_within(600)
    assert driver.status == 0, RunDir(driver.run).state().get("error")
    assert not check_once(driver.run, steps)
    lost = driver.said("is lost")
    bound_s = 2 * _longest_normal(driver.run) + _HURRY_S
    print(f"{KILLS} kills; said after {sorted(shown_in_time(kills, lost, bound_s))} s")
    with Store.open(RunDir(driver.run).store_target, read_only=True) as store:
        restarts = store.metrics(store.runs()[0].record.run_id)["engine_restarts"][-1][1]
    assert restarts is not None and 0 < restarts <= KILLS


def _longest_normal(run: Path) -> float:
    """Median of a step's seconds: most steps of this run have a server started again in them, or none."""
    with Store.open(RunDir(run).store_target, read_only=True) as store:
        seconds = sorted(value or 0.0 for _, value in store.metrics(store.runs()[0].record.run_id)["step_seconds"])
    return seconds[len(seconds) // 2]


# An environment's process.


@pytest.mark.parametrize("who", ["program", "launcher"])
def test_a_process_of_an_environment(who: str, tiny_folder: Path, tmp_path: Path) -> None:
    """The sessions that it plays fail with that cause, and are run again once; a killed launcher is replaced."""
    dice, steps = random.Random(5), 3 + 2 * KILLS
    options = (f"training.steps={steps}", "evaluation.num_tasks=0", "rollout.missing_members=retry")
    driver = Driver(tiny_folder, tmp_path / "run", (*options, "rollout.max_failed=1.0"), by_program(tmp_path, 0.05))
    driver.start()
    kills = 0
    while not driver.ends_within(dice.uniform(0.02, 0.2)):
        lines = below(driver.pid)
        launchers = [pid for pid, line in lines.items() if "launcher.py" in line and pid in _children(driver.pid)]
        programs = [pid for launcher in launchers for pid in _children(launcher)]
        chosen = programs if who == "program" else launchers
        if kills < KILLS and chosen:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(chosen), signal.SIGKILL)
                kills += 1
    if driver.status != 0:  # every session of a step failed, twice
        assert "EnvironmentFault" in (error := RunDir(driver.run).state()["error"]) or "every session" in error
        driver.finish()
    kinds = check_once(driver.run, steps)
    print(f"{kills} kills of {steps} steps: {dict(kinds)}")
    assert kills and set(kinds) <= {"environment/killed", "environment/EnvironmentFault"}


def _children(pid: int) -> list[int]:
    return [child for child, (parent, _) in processes().items() if parent == pid]
