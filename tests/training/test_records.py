"""A run's records in its folder and on a server: the same run, one driver, one place."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from askesis.cli.commands import report, show, top
from askesis.cli.commands import store as store_command
from askesis.errors import CheckpointError, StoreBusy
from askesis.store import Store, StoreUnreachable, copy_store
from askesis.training import loop
from askesis.training.observe.process import this_process
from askesis.training.preflight import prepare
from askesis.training.records import open_records
from askesis.training.rundir import RunDir, find_run
from cluster.postgres import PASSWORD, PostgresServer
from small_run import Interrupted, final, small, start

_numbers = itertools.count()


@pytest.fixture
def new_url(server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Makes databases with an empty store; their URLs hold no password, as in a recipe."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    made: list[str] = []

    def make() -> str:
        made.append(f"run_{next(_numbers)}")
        server.sql(f"CREATE DATABASE {made[-1]} TEMPLATE empty")
        return server.url(made[-1], password=None)

    yield make
    for name in made:
        server.sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def on(url: str) -> str:
    return f'store.url="{url}"'


@pytest.mark.parametrize(
    "place",
    ["_record", *(pytest.param(place, marks=pytest.mark.opt_in) for place in (None, "_checkpoint", "_samples"))],
)
def test_a_run_on_a_server_ends_as_one_in_a_file(
    place: str | None,
    unbroken: Path,
    tiny_folder: Path,
    tmp_path: Path,
    new_url: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, url = tmp_path / "run", new_url()
    if place is not None:
        original, calls = getattr(loop._Trainer, place), 0

        def stop(self: object, *args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise Interrupted
            return original(self, *args, **kwargs)

        monkeypatch.setattr(loop._Trainer, place, stop)
        with pytest.raises(Interrupted):
            start(small(tiny_folder, run, on(url)))
        assert RunDir(run).state()["status"] == "failed"
    start(small(tiny_folder, run, on(url)))
    assert final(run) == final(unbroken)  # the root of the Merkle log, too
    assert not (run / "store.db").exists()


def _child(folder: str, run: str, url: str) -> None:
    torch.set_num_threads(1)
    start(small(folder, Path(run), on(url)))


@pytest.mark.opt_in
def test_killed_at_random_moments_a_run_on_a_server_ends_the_same(
    unbroken: Path, tiny_folder: Path, tmp_path: Path, new_url: Callable[[], str]
) -> None:
    url, run, dice = new_url(), tmp_path / "run", random.Random(3)
    fork = multiprocessing.get_context("fork")
    for limit_s in (*(dice.uniform(0.05, 0.4) for _ in range(4)), None):
        child = fork.Process(target=_child, args=(str(tiny_folder), str(run), url))
        child.start()
        child.join(limit_s)
        if child.is_alive():
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
    assert child.exitcode == 0
    assert final(run) == final(unbroken)


@pytest.mark.opt_in
def test_every_command_that_opens_a_store_finds_it(
    tiny_folder: Path, tmp_path: Path, new_url: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    run, url = tmp_path / "run", new_url()
    start(small(tiny_folder, run, on(url), "training.steps=1"))
    name = str(run)
    show.run(name, None, limit=3, timeline=False, json_output=False)
    show.run(name, None, limit=3, timeline=True, json_output=False)
    report.run(name, None, markdown=False, json_output=False)
    top.run(name, every_s=1.0, once=True, json_output=False)
    assert store_command.verify(name, json_output=False) == 0
    store_command.query(name, "SELECT count(*) FROM groups", limit=5, json_output=True)
    store_command.export(name, tmp_path / "out.jsonl", json_output=False)
    store_command.copy(name, str(tmp_path / "copy.db"), json_output=False)
    shown = capsys.readouterr().out
    assert "finished" in shown and "[[10]]" in shown and "every record is what was written" in shown
    assert (run / "report.html").is_file() and (tmp_path / "out.jsonl").stat().st_size > 1000
    assert PASSWORD not in shown + (run / "run.json").read_text() + (run / "state.json").read_text()


@pytest.mark.opt_in
def test_a_password_file_will_do(
    tiny_folder: Path, tmp_path: Path, new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "pgpass"
    secret.write_text("*:*:*:*:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:"))
    secret.chmod(0o600)
    url = new_url()
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("PGPASSFILE", str(secret))
    start(small(tiny_folder, tmp_path / "run", on(url), "training.steps=1", "evaluation.num_tasks=0"))
    assert RunDir(tmp_path / "run").store_target == url


def interrupted(folder: Path, run: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> None:
    def stop(self: object, metrics: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, "_record", stop)
        with pytest.raises(Interrupted):
            start(small(folder, run, *more))


@pytest.mark.parametrize("kind", ["file", "server"])
def test_a_second_process_is_told_who_drives_the_run(
    kind: str, tiny_folder: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("new_url")() if kind == "server" else ""
    run = RunDir(tmp_path / "run")
    interrupted(tiny_folder, run.path, monkeypatch, on(url))
    before = run.state_file.read_bytes()
    with open_records(run, url), pytest.raises(StoreBusy) as caught, open_records(run, url, wait_s=0.1):
        raise AssertionError("two processes write one run")
    process = this_process()
    assert f"process {process['pid']} on {process['host']}" in str(caught.value.got)
    assert caught.value.what == "another process drives this run" and "askesis top" in str(caught.value)
    assert run.state_file.read_bytes() == before


@pytest.mark.opt_in
def test_the_server_names_the_driver_of_another_folder(
    tiny_folder: Path, tmp_path: Path, new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, one, two = new_url(), RunDir(tmp_path / "one"), RunDir(tmp_path / "two")
    interrupted(tiny_folder, one.path, monkeypatch, on(url))
    two.path.mkdir()
    two.identity_file.write_bytes(one.identity_file.read_bytes())
    with open_records(one, url), pytest.raises(StoreBusy) as caught, open_records(two, url, wait_s=0.1):
        raise AssertionError("two processes write one run")
    assert f"process {os.getpid()} on " in str(caught.value.got) and "address 127.0.0.1" in str(caught.value.got)
    with pytest.raises(CheckpointError, match="begun in another folder"), open_records(two, url):
        raise AssertionError("one folder goes on where another began")
    assert not two.begun


@pytest.mark.opt_in
def test_records_that_are_elsewhere_are_not_begun_anew(
    unbroken: Path, tiny_folder: Path, tmp_path: Path, new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, url, other = tmp_path / "run", new_url(), new_url()
    interrupted(tiny_folder, run, monkeypatch, on(url))
    for wrong in ("", other):
        with pytest.raises(CheckpointError, match="in another store") as caught:
            start(small(tiny_folder, run, on(wrong)))
        assert f"askesis store copy {url} {wrong or run / 'store.db'}" in str(caught.value)
    assert not (run / "store.db").exists() and find_run(str(run)).store_target == url
    copy_store(url, run / "store.db")
    start(small(tiny_folder, run))  # as the message said
    assert final(run) == final(unbroken)
    assert RunDir(run).store_target == run / "store.db"


def test_nothing_is_begun_where_no_server_answers(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("psycopg")
    run, url = RunDir(tmp_path / "run"), "postgresql://nobody@127.0.0.1:9/none"
    prepare(small(tiny_folder, run.path, on(url)))
    with pytest.raises(StoreUnreachable), open_records(run, url, wait_s=0.1):
        raise AssertionError("a server where there is none")
    assert not run.begun  # a corrected recipe may take its place


def test_a_store_in_the_folder_needs_no_url(unbroken: Path) -> None:
    with Store.open(RunDir(unbroken).store_target, read_only=True) as store:
        assert store.runs()[0].status == "finished"
