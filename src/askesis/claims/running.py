"""Making the runs of a claim: two side by side, each finished run once, and no failure out of sight."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

from askesis.claims.reading import FinishedRun, read_run
from askesis.claims.study import Plan
from askesis.clock import SystemClock
from askesis.errors import AskesisError
from askesis.recipe import load_recipe

__all__ = ["FailedRun", "make_run", "make_runs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A run that raised. ``cause`` is the error's type and text."""

    plan: Plan
    cause: str


def make_runs(
    plans: Sequence[Plan], *, workers: int, notify: Callable[[Plan, FinishedRun | FailedRun], None]
) -> list[FinishedRun]:
    """Train what is not trained yet, and read every run.

    Args:
        plans: the runs.
        workers: processes side by side; 0 trains in this one.
        notify: told of each run when it has ended.

    Raises:
        AskesisError: at least one run failed; the others are kept, and the same call makes only what is missing.
    """
    finished: list[FinishedRun] = []
    failed: list[FailedRun] = []
    for plan, outcome in _in_this_process(plans) if workers == 0 else _side_by_side(plans, workers):
        if isinstance(outcome, FailedRun):
            failed.append(outcome)
        else:
            finished.append(outcome)
        notify(plan, outcome)
    if failed:
        raise AskesisError(
            f"{len(failed)} of {len(plans)} runs failed, so there is no verdict. The first: {failed[0].cause}",
            where=", ".join(str(f.plan.path) for f in failed[:3]),
            next_step="mend the cause; the same command then makes only the runs that are missing",
        )
    return finished


def make_run(plan: Plan) -> FinishedRun | FailedRun:
    """Train one run, unless it is finished, and read it. Whatever it raises becomes a FailedRun."""
    # Training loads torch; a process that only hands out work needs none.
    from askesis.training.loop import train
    from askesis.training.preflight import prepare
    from askesis.training.progress import PlainProgress

    try:
        resolved = replace(load_recipe(None, plan.overrides), name=f"{plan.arm}-{plan.seed}")
        prepared = prepare(resolved)
        if prepared.run.state().get("status") != "finished":
            train(resolved, prepared.run, prepared.world, PlainProgress(io.StringIO(), clock=SystemClock()))
        return read_run(plan.path, setting=plan.setting, arm=plan.arm, seed=plan.seed)
    except Exception as error:
        return FailedRun(plan=plan, cause=f"{type(error).__name__}: {error}")


def _in_this_process(plans: Sequence[Plan]) -> Iterator[tuple[Plan, FinishedRun | FailedRun]]:
    return ((plan, make_run(plan)) for plan in plans)


def _side_by_side(plans: Sequence[Plan], workers: int) -> Iterator[tuple[Plan, FinishedRun | FailedRun]]:
    # Spawned, not forked: a fork of a process in which torch has threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future[FinishedRun | FailedRun], Plan] = {pool.submit(make_run, plan): plan for plan in plans}
        try:
            for future in as_completed(futures):
                plan = futures[future]
                try:
                    outcome = future.result()
                except BrokenProcessPool as error:
                    outcome = FailedRun(plan=plan, cause=f"its process ended: {error}")
                yield plan, outcome
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the runs in progress end at their next interrupt or their end
            raise
