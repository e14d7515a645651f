"""askesis claim"""

from __future__ import annotations

import sys
import traceback

from askesis.claims.catalog import CLAIMS, find_study
from askesis.claims.checking import check, claim_folder
from askesis.claims.claim import Claim, Plan, number
from askesis.claims.code import code_digest
from askesis.claims.judging import ClaimResult
from askesis.claims.records import closing_line
from askesis.claims.running import FailedRun, Finished
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
        said = {s.name: {"paper": s.paper, "statement": s.statement} for s in studies}
        output.emit({"claims": said, "code": code_digest()[:12]})
        return
    output.table(("claim", "paper", "says"), [(s.name, s.paper, s.statement) for s in studies])


class _Counter:
    """A line on standard error for each trial that has ended."""

    def __init__(self, study: Claim, scale: str, seeds: int | None) -> None:
        cells = len(study.settings) * len(study.arms)
        self._total = cells * (study.scale(scale).seeds if seeds is None else seeds)
        self._ended = 0

    def __call__(self, plan: Plan, outcome: Finished | FailedRun) -> None:
        self._ended += 1
        said = f"FAILED: {outcome.cause}" if isinstance(outcome, FailedRun) else f"{outcome.wall_s:.0f} s"
        line = f"{self._ended}/{self._total} {plan.setting}, {plan.arm}, seed {plan.seed}: {said}"
        print(output.plain(line), file=sys.stderr, flush=True)


def _show(result: ClaimResult) -> None:
    claim = result.claim
    first = claim.metrics[0]
    rows: list[tuple[object, ...]] = []
    for arm in result.arms:
        reached = [_interval(*arm.metrics[metric.name][:3], metric.unit) for metric in claim.metrics]
        lead = "" if arm.lead is None else _interval(*arm.lead[first.name][:3], first.unit, sign="+")
        rows.append((arm.setting, arm.arm, arm.role.value, *reached, lead))
    names = [f"{m.name}, {m.unit}" if m.unit else m.name for m in claim.metrics]
    columns = ("setting", "arm", "role", *names, f"{claim.method.name} minus this, {first.name}")
    output.table(columns, rows, title=f"{claim.title}: {result.seeds} seeds, scale {result.scale}")
    output.table(
        ("part of the claim", "against", "effect", "must lie", "holds"),
        [
            (
                p.part.statement,
                p.rival,
                _interval(*p.effect[:3], claim.metric(p.part.metric).unit, sign="+"),
                p.part.required(claim.metric(p.part.metric)),
                "yes" if p.holds else "no",
            )
            for p in result.parts
        ],
    )
    verdict = {True: "the claim holds", False: "the claim does not hold", None: "not judged"}[result.holds]
    print(f"{verdict}: {result.reason}\nresult: {claim_folder(claim, result.scale)}")


def _interval(mean: float, low: float, high: float, unit: str, *, sign: str = "") -> str:
    shown = [number(value, unit, sign=sign) for value in (mean, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]"
