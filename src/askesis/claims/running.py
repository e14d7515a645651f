"""Making the trials of a claim: two side by side, each finished one once, and no failure out of sight."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext

from askesis.claims.claim import Plan
from askesis.claims.experiment import FinishedTrial, TrialTask, make_trial
from askesis.claims.reading import FinishedRun, read_run
from askesis.clock import SystemClock
from askesis.errors import AskesisError
from askesis.recipe import load_recipe

__all__ = ["FailedRun", "Finished", "clean_processes", "end_with_parent", "make_run", "make_runs"]

Finished = FinishedRun | FinishedTrial
_PRELOADED = ["askesis.training.loop", "reasoning_gym", "transformers.models.qwen3.modeling_qwen3"]
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedRun:
    """A trial that raised. ``cause`` is the error's type and text."""

    plan: Plan
    cause: str


def make_runs(
    plans: Sequence[Plan], *, workers: int, notify: Callable[[Plan, Finished | FailedRun], None]
) -> list[Finished]:
    """Make what is not made yet, and read every trial.

    Args:
        plans: the trials.
        workers: processes side by side; 0 makes them in this one.
        notify: told of each trial when it (side by side: its batch) has ended.

    Raises:
        AskesisError: at least one failed; the others are kept, and the same call makes only what is missing.
    """
    finished: list[Finished] = []
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


def make_run(plan: Plan) -> Finished | FailedRun:
    """Make one trial, unless it is finished, and read it. Whatever it raises becomes a FailedRun."""
    try:
        if isinstance(plan.task, TrialTask):
            return make_trial(plan)
        run = _train(plan)
        if plan.task is not None:
            plan.task(run)
        return run
    except Exception as error:
        return FailedRun(plan=plan, cause=f"{type(error).__name__}: {error}")


def _train(plan: Plan) -> FinishedRun:
    # Training loads torch; a process that only hands out work needs none.
    from askesis.training.loop import train
    from askesis.training.preflight import prepare
    from askesis.training.progress import PlainProgress

    resolved = replace(load_recipe(None, plan.overrides), name=f"{plan.arm}-{plan.seed}")
    prepared = prepare(resolved)
    if prepared.run.state().get("status") != "finished":
        train(resolved, prepared.run, prepared.world, PlainProgress(io.StringIO(), clock=SystemClock()))
    return read_run(plan.path, setting=plan.setting, arm=plan.arm, seed=plan.seed)


def _make_batch(plans: Sequence[Plan]) -> list[Finished | FailedRun]:
    return [make_run(plan) for plan in plans]


def _in_this_process(plans: Sequence[Plan]) -> Iterator[tuple[Plan, Finished | FailedRun]]:
    return ((plan, make_run(plan)) for plan in plans)


def _side_by_side(plans: Sequence[Plan], workers: int) -> Iterator[tuple[Plan, Finished | FailedRun]]:
    batches: dict[str, list[Plan]] = {}
    for plan in plans:
        batches.setdefault(plan.batch or str(plan.path), []).append(plan)
    with _one_thread(), ProcessPoolExecutor(workers, mp_context=clean_processes(), initializer=_begin) as pool:
        futures: dict[Future[list[Finished | FailedRun]], list[Plan]] = {
            pool.submit(_make_batch, batch): batch for batch in batches.values()
        }
        try:
            for future in as_completed(futures):
                batch = futures[future]
                outcomes: list[Finished | FailedRun]
                try:
                    outcomes = future.result()
                except BrokenProcessPool as error:
                    outcomes = [FailedRun(plan=plan, cause=f"its process ended: {error}") for plan in batch]
                yield from zip(batch, outcomes, strict=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # the runs in progress end at their next interrupt or their end
            raise


def clean_processes() -> BaseContext:
    """How to start processes that hold nothing of this one: a fork of a process in which torch has threads may hang.

    Where it can be had, one server imports what training needs, once, and its forks begin at once.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["askesis.training.loop", "reasoning_gym", "transformers.models.qwen3.modeling_qwen3"]
    )
    return context


def _begin() -> None:
    import torch

    end_with_parent()
    torch.set_num_threads(1)  # the server may have been started under another OMP_NUM_THREADS


def end_with_parent() -> None:
    """End this process when the one that started it has gone, however it went: no run goes on unseen."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes that start inside have one thread for their tensors, as many as make two of them fit two cores."""
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
