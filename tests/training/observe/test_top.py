"""A run from outside: alive, dead, finished, elsewhere; nothing of it is touched."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from rich.console import Console

from askesis.errors import CheckpointError, RecipeError
from askesis.training import loop
from askesis.training.observe import top
from askesis.training.observe.process import this_process
from askesis.training.observe.top import Condition, render, take_snapshot
from askesis.training.preflight import prepare
from askesis.training.rundir import RunDir, find_run
from small_run import Interrupted, small, start


@pytest.fixture
def finished(unbroken: Path) -> RunDir:
    return RunDir(unbroken)


def shown(run: RunDir, *, now: float | None = None) -> str:
    out = io.StringIO()
    Console(file=out, width=120, no_color=True).print(render(take_snapshot(run, now=now)))
    return out.getvalue()


def test_a_finished_run_says_so(finished: RunDir) -> None:
    shot = take_snapshot(finished)
    assert (shot.condition, shot.step, shot.steps, shot.left_s) == (Condition.FINISHED, 4, 4, None)
    assert set(shot.held_out) == {"before", "after"} and shot.metrics["reward_mean"] is not None
    assert not shot.condition.goes_on and shot.timeline is not None and shot.timeline.num_steps == 4
    text = shown(finished)
    for part in ("finished", "step 4/4", "held out, after", "Reward", "sampling", "learner", "checkpoints (4)"):
        assert part in text, part


def test_looking_leaves_no_trace(finished: RunDir) -> None:
    before = {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file() and "store.db-" not in p.name}
    shown(finished)
    after = {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file() and "store.db-" not in p.name}
    assert before == after


def test_a_run_that_was_interrupted_can_be_resumed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: object, metrics: object) -> None:
        raise Interrupted

    monkeypatch.setattr(loop._Trainer, "_record", stop)
    with pytest.raises(Interrupted):
        start(small(tiny_folder, tmp_path / "run"))
    text = shown(RunDir(tmp_path / "run"))
    assert "failed" in text and "Interrupted" in text and "resumes it" in text


def _child(folder: str, run: str) -> None:
    torch.set_num_threads(1)
    start(small(folder, Path(run), "training.steps=100000", "evaluation.num_tasks=0", "training.checkpoint_every=0"))


def test_a_live_run_is_watched_and_a_killed_one_is_found_dead(tiny_folder: Path, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    child = multiprocessing.get_context("fork").Process(target=_child, args=(str(tiny_folder), str(run.path)))
    child.start()
    try:
        deadline = time.monotonic() + 60
        while not (run.identity_file.exists() and take_snapshot(run).step >= 2):
            assert time.monotonic() < deadline and child.is_alive()
            time.sleep(0.02)
        first = take_snapshot(run)
        assert first.condition is Condition.RUNNING and first.stage == "training"
        assert first.heard_s is not None and first.heard_s < 10 and f"process {child.pid} " in str(first.process)
        assert first.left_s is not None and first.left_s > 0
        while take_snapshot(run).step <= first.step:  # it goes on while it is looked at
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    shot = take_snapshot(run)
    assert shot.condition is Condition.DEAD and run.state()["status"] == "running"
    assert "its process is gone without a word" in shown(run)


def test_a_run_on_another_machine_is_judged_by_its_last_word(finished: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.identity_file.write_bytes(finished.identity_file.read_bytes())
    run.update_state(status="running", process={**this_process(), "host": "elsewhere"})
    run.live.write_text(json.dumps({"time": 1000.0, "stage": "training", "stage_since": 990.0, "step": 2}))
    assert take_snapshot(run, now=1002.0).condition is Condition.RUNNING
    assert take_snapshot(run, now=1000.0 + 2 * top.SILENT_S).condition is Condition.SILENT
    assert "no sign of life for 2 min 00 s; process" in shown(run, now=1120.0)
    run.update_state(process=this_process())
    run.live.write_text(
        json.dumps({"time": 1000.0, "stage": "training", "stage_since": 990.0, "awaited": "6 sessions"})
    )
    text = shown(run, now=1030.0)
    assert "running" in text and "waiting for 6 sessions: 40 s" in text


def test_what_went_wrong_last_is_shown_with_its_age(finished: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    run.update_state(status="running", process=this_process())
    live = json.loads(run.live.read_text())
    run.live.write_text(json.dumps({**live, "warning": "worker 1 was lost: no memory", "warned": live["time"]}))
    text = shown(run, now=live["time"] + 90)
    assert "1 min 30 s ago: worker 1 was lost: no memory" in text


def test_a_run_that_has_not_begun_and_a_folder_that_is_none(tiny_folder: Path, tmp_path: Path) -> None:
    prepared = prepare(small(tiny_folder, tmp_path / "run"))
    assert take_snapshot(prepared.run).condition is Condition.NOT_BEGUN
    assert "nothing of it has been stored yet" in shown(prepared.run)
    with pytest.raises(CheckpointError, match="not a run"):
        take_snapshot(RunDir(tmp_path))


def test_a_store_that_cannot_be_read_now_is_said(finished: RunDir, tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.identity_file.write_bytes(finished.identity_file.read_bytes())
    run.update_state(status="finished")
    run.store.write_bytes(b"no database" * 100)
    assert "the store was cut" in shown(run)


def test_the_command_shows_once_and_as_json(finished: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    from askesis.cli.commands import top as command

    name = str(finished.path)
    command.run(name, every_s=1.0, once=True, json_output=False)
    assert "finished" in capsys.readouterr().out
    command.run(name, every_s=1.0, once=False, json_output=True)
    found = json.loads(capsys.readouterr().out)
    assert found["condition"] == "finished" and found["timeline"]["num_steps"] == 4
    with pytest.raises(RecipeError, match="out of range"):
        command.run(name, every_s=0.0, once=True, json_output=False)
    assert find_run(name) == finished
