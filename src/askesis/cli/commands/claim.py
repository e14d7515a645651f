"""askesis claim"""

from __future__ import annotations

import sys
import traceback

from askesis.claims.catalog import CLAIMS, find_study
from askesis.claims.checking import check, claim_folder
from askesis.claims.judging import ClaimResult
from askesis.claims.reading import FinishedRun
from askesis.claims.records import closing_line
from askesis.claims.running import FailedRun
from askesis.claims.study import Plan, Study
from askesis.cli import output
from askesis.errors import AskesisError, RecipeError

__all__ = ["EXIT_ERROR", "EXIT_FAILS", "exit_code", "run"]

EXIT_FAILS = 1
"""The claim was judged and does not hold."""
EXIT_ERROR = 3
"""It could not be judged."""


def run(name: str | None, *, scale: str, seeds: int | None, json_output: bool) -> int:
    """List the claims, or check one: 0 it holds (or its scale is not judged), 1 it does not, 3 it cannot be judged."""
    if name is None:
        _list(json_output=json_output)
        return 0
    study = find_study(name)
    try:
        result = check(study, scale, seeds=seeds, notify=_Counter(study, scale, seeds))
    except RecipeError:
        raise
    except AskesisError as error:
        output.complain(error, json_output=json_output)
        return EXIT_ERROR
    except Exception:  # a bug, which Python would leave with 1: that is a verdict here
        traceback.print_exc()
        return EXIT_ERROR
    if json_output:
        output.emit(closing_line(result))
    else:
        _show(result)
    return exit_code(result)


def exit_code(result: ClaimResult) -> int:
    """0 when the claim holds or its scale is not judged, 1 when it does not hold."""
    return EXIT_FAILS if result.holds is False else 0


def _list(*, json_output: bool) -> None:
    studies = [find_study(name) for name in CLAIMS]
    if json_output:
        output.emit({"claims": {s.name: {"paper": s.paper, "statement": s.statement} for s in studies}})
        return
    output.table(("claim", "paper", "says"), [(s.name, s.paper, s.statement) for s in studies])


class _Counter:
    """A line on standard error for each run that has ended."""

    def __init__(self, study: Study, scale: str, seeds: int | None) -> None:
        cells = len(study.settings) * len(study.arms)
        self._total = cells * (study.scale(scale).seeds if seeds is None else seeds)
        self._ended = 0

    def __call__(self, plan: Plan, outcome: FinishedRun | FailedRun) -> None:
        self._ended += 1
        said = f"FAILED: {outcome.cause}" if isinstance(outcome, FailedRun) else f"{outcome.wall_s:.0f} s"
        line = f"{self._ended}/{self._total} {plan.setting}, {plan.arm}, seed {plan.seed}: {said}"
        print(output.plain(line), file=sys.stderr, flush=True)


def _show(result: ClaimResult) -> None:
    metrics = [metric.name for metric in result.study.metrics]
    rows: list[tuple[object, ...]] = []
    for arm in result.arms:
        reached = [_percent(*arm.metrics[metric][:3]) for metric in metrics]
        lead = "" if arm.lead is None else _percent(*arm.lead[metrics[0]][:3], sign="+")
        rows.append((arm.setting, arm.arm, arm.role.value, *reached, lead))
    columns = ("setting", "arm", "role", *metrics, f"{result.study.method.name} minus this, {metrics[0]}")
    output.table(columns, rows, title=f"{result.study.title}: {result.seeds} seeds, scale {result.scale}")
    output.table(
        ("part of the claim", "against", "effect", "must lie", "holds"),
        [
            (
                p.part.statement,
                p.rival,
                _percent(*p.effect[:3], sign="+"),
                p.part.required,
                "yes" if p.holds else "no",
            )
            for p in result.parts
        ],
    )
    verdict = {True: "the claim holds", False: "the claim does not hold", None: "not judged"}[result.holds]
    print(f"{verdict}: {result.reason}\nresult: {claim_folder(result.study, result.scale)}")


def _percent(mean: float, low: float, high: float, *, sign: str = "") -> str:
    return f"{100 * mean:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
