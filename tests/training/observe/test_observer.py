"""What a run tells those who watch it, and that it costs the result nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest

from askesis.metering import Activity
from askesis.recipe import ObserveSection
from askesis.store import Store
from askesis.training.observe.observer import Observer
from askesis.training.progress import StepEvent
from askesis.training.report.timeline import metric_name
from askesis.training.rundir import RunDir
from small_run import final, small, start


class Heard:
    """A display that remembers."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def stage(self, name: str) -> None:
        self.events.append(name)

    def step(self, event: StepEvent) -> None:
        self.events.append(event)

    def tick(self, awaited: str) -> None:
        self.events.append(("tick", awaited))

    def __enter__(self) -> Heard:
        return self

    def __exit__(self, *_: object) -> None:
        return


def test_seconds_of_steps_and_between_them_are_kept_apart(tmp_path: Path) -> None:
    heard = Heard()
    observer = Observer(ObserveSection(), RunDir(tmp_path), "R", heard)
    with observer.phase("checkpoint", Activity.CHECKPOINT):
        time.sleep(0.01)
    with observer.phase("rollout", sessions=3):
        pass
    step = observer.seconds_of_step()
    assert metric_name("checkpoint") not in step and step[metric_name("other")] > 0
    assert list(observer.seconds_between()) == ["time_checkpoint_s"]
    assert observer.seconds_between() == {}
    observer.progress.stage("on")
    assert heard.events == ["on"] and json.loads((tmp_path / "live.json").read_text())["stage"] == "on"
    assert observer.on_session is None


def test_every_step_says_where_its_time_went(unbroken: Path) -> None:
    with Store.open(unbroken / "store.db", read_only=True) as store:
        series = store.metrics(store.runs()[0].record.run_id)
    steps = dict(series["step_seconds"])
    for step in (2, 3, 4):
        parts = {a: dict(series[metric_name(a.label)])[step] for a in list(Activity)[2:]}
        whole = sum(value or 0.0 for value in parts.values())
        assert all(value is not None and value >= 0 for value in parts.values())
        # Every moment since the step before: so at least the step itself.
        assert whole >= (steps[step] or 0.0) * 0.999
        for activity in (Activity.SAMPLING, Activity.TOKENISING, Activity.STORE, Activity.LEARNER):
            assert (parts[activity] or 0.0) > 0, activity
    assert [step for step, _ in series["time_evaluation_s"]] == [0, 4]
    assert [step for step, _ in series["time_checkpoint_s"]] == [1, 2, 3, 4]


def test_evolution_says_it_too(tiny_folder: Path, tmp_path: Path) -> None:
    more = ["learner.kind=evolution", "learner.evolution.method=es", "training.steps=1", "rollout.group_size=4"]
    keys = [f"policy.name={json.dumps(str(tiny_folder))}", f"run.dir={json.dumps(str(tmp_path / 'run'))}"]
    from askesis.recipe import load_recipe

    small_values = [
        *("rollout.groups_per_step=2", "sampling.max_tokens=6", "evaluation.num_tasks=4", "agent.format=none"),
        'environment.instruction=""',
    ]
    start(load_recipe(None, [*small_values, *keys, *more]))
    with Store.open(tmp_path / "run" / "store.db", read_only=True) as store:
        series = store.metrics(store.runs()[0].record.run_id)
    for activity in (Activity.SAMPLING, Activity.STORE, Activity.LEARNER, Activity.CHECKS):
        assert (series[metric_name(activity.label)][0][1] or 0.0) > 0, activity


def test_those_who_watch_change_nothing(unbroken: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """With a Prometheus endpoint that is scraped all the time, the weights and the log are the same."""
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("prometheus_client")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen: list[str] = []
    done = threading.Event()

    def scrape() -> None:
        with httpx.Client() as client:
            while not done.wait(0.05):
                try:
                    seen.append(client.get(f"http://127.0.0.1:{port}/metrics").text)
                except httpx.TransportError:
                    continue

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        start(small(tiny_folder, tmp_path / "run", f"observe.metrics_port={port}"))
    finally:
        done.set()
        thread.join()
    assert final(tmp_path / "run") == final(unbroken)
    assert any("askesis_steps_planned 4.0" in text for text in seen)


def test_a_warning_is_in_the_log_in_the_live_file_and_kept_for_the_report(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = RunDir(tmp_path)
    observer = Observer(ObserveSection(), run, "R", Heard())
    for number in range(102):
        observer.warn(f"worker {number} was lost")
    assert json.loads(run.live.read_text())["warning"] == "worker 101 was lost"
    kept = run.state()["warnings"]
    assert len(kept) == 100 and kept[-1] == "worker 101 was lost"
    assert caplog.records[-1].getMessage() == "worker 101 was lost"
