"""Making runs: resuming, failing, and side by side."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from askesis.claims import Plan
from askesis.claims.reading import FinishedRun
from askesis.claims.running import FailedRun, make_runs
from askesis.errors import AskesisError


def told(log: list[tuple[str, type]]) -> Any:
    return lambda plan, outcome: log.append((plan.arm, type(outcome)))


def test_a_finished_run_is_not_run_again(make_study: Any, tmp_path: Path) -> None:
    study = make_study()
    plans = study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)
    first = make_runs(plans[:1], workers=0, notify=told([]))
    before = {p: p.stat().st_mtime_ns for p in plans[0].path.rglob("*") if p.suffix in (".json", ".safetensors", ".db")}
    log: list[tuple[str, type]] = []
    second = make_runs(plans[:2], workers=0, notify=told(log))
    assert second[0] == first[0] and [arm for arm, _ in log] == ["ours", "nsr"]
    assert len(before) > 4 and {p: p.stat().st_mtime_ns for p in before} == before


def leave_a_mark(run: FinishedRun) -> None:
    (run.path / "mark").write_text(f"{run.arm} {len(run.final)}")


def test_a_study_measures_its_runs_where_they_are_made(make_study: Any, tmp_path: Path) -> None:
    study = make_study(measure=leave_a_mark)
    plans = study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)
    make_runs(plans[:1], workers=0, notify=told([]))
    assert (plans[0].path / "mark").read_text() == "ours 2"


def test_a_run_that_fails_is_shown_with_its_cause_and_the_others_are_kept(make_study: Any, tmp_path: Path) -> None:
    study = make_study()
    plans = study.plans(study.scale("smoke"), seeds=1, folder=tmp_path)
    broken = plans[0]._replace(overrides=(*plans[0].overrides, "training.lr=1e30"))
    log: list[tuple[str, type]] = []
    with pytest.raises(AskesisError, match="1 of 2 runs failed") as caught:
        make_runs([broken, plans[1]], workers=0, notify=told(log))
    assert log == [("ours", FailedRun), ("nsr", FinishedRun)]
    assert str(broken.path) in str(caught.value) and "finite" in str(caught.value)


PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from askesis.claims.running import end_with_parent

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.opt_in
def test_a_killed_claim_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.2)  # it is asleep in its second task now
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(child)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # dead, and nobody has asked for its exit code


@pytest.mark.opt_in
def test_side_by_side_gives_the_runs_that_each_gives_alone_and_a_failure_its_cause(
    make_study: Any, tmp_path: Path
) -> None:
    study = make_study()

    def made(folder: str, workers: int) -> tuple[dict[str, Any], str]:
        plans = study.plans(study.scale("smoke"), seeds=1, folder=tmp_path / folder)[:2]
        place = tmp_path / folder / "broken"
        broken = Plan("easy", "psr", 0, (*plans[1].overrides, "environment.family=gdc", f"run.dir={place}"), place)
        seen: dict[str, Any] = {}

        def notify(plan: Plan, outcome: Any) -> None:
            seen[plan.arm] = (outcome.final, outcome.num_trained) if isinstance(outcome, FinishedRun) else type(outcome)

        with pytest.raises(AskesisError) as caught:
            make_runs([*plans, broken], workers=workers, notify=notify)
        return seen, str(caught.value)

    together, why = made("together", 2)
    assert together == made("alone", 0)[0] and together["psr"] is FailedRun
    assert "1 of 3 runs failed" in why and "RecipeError" in why and "gcd" in why
