"""The report as one HTML file that needs nothing else: no script, no font, no picture, no network.

Everything goes through Jinja2 with autoescape; only the charts, which this package draws from numbers, are taken as
they are. A content security policy in the page forbids every load and every script, should something slip through.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from askesis.training.report.catalog import Metric, format_brief, format_number, format_seconds, metric, ordered
from askesis.training.report.charts import interval_svg, series_svg
from askesis.training.report.data import Evaluation, ReportData
from askesis.training.report.headline import changes, headline, percent, percent_interval
from askesis.training.report.samples import group_views
from askesis.training.report.text import clip, visible
from askesis.training.report.timeline import is_phase, timeline_of

__all__ = ["to_html"]

MAX_SERIES = 48
MAX_ROWS = {"evaluations": 48, "recipe": 400, "algorithm": 100, "self_checks": 100, "failures": 60, "warnings": 100}
OPEN_GROUPS = 3
OPEN_MEMBERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """One metric's curve with what its caption says; ``svg`` is empty when there is no value to draw."""

    metric: Metric
    svg: str
    last: str
    extent: str


def to_html(data: ReportData) -> str:
    """The whole page, below 5 MB whatever the data: long lists and texts are cut, and a note says so."""
    limits = {name: getattr(data, name)[:size] for name, size in MAX_ROWS.items() if name != "algorithm"}
    groups, groups_left_out = group_views(data.groups)
    stages = algorithm_rows(data.algorithm)
    names = [name for name in ordered(data.series) if not is_phase(name)]  # phases have a section of their own
    left_out = {name: len(getattr(data, name)) - len(rows) for name, rows in limits.items()}
    left_out |= {
        "groups": groups_left_out,
        "series": max(0, len(names) - MAX_SERIES),
        "algorithm": max(0, len(stages) - MAX_ROWS["algorithm"]),
    }
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            data=data,
            css=Markup(files("askesis.training.report").joinpath("templates/report.css").read_text("utf-8")),
            head=headline(data),
            changes=changes(data),
            evaluations=limits["evaluations"],
            intervals=[Markup(_interval(e)) for e in limits["evaluations"]],
            ks=sorted({k for e in limits["evaluations"] for k in e.pass_at_k})[:8],
            timeline=timeline_of(data.series),
            charts=[_chart(name, data.series[name]) for name in names[:MAX_SERIES]],
            changed=[row for row in limits["recipe"] if row.differs],
            unchanged=[row for row in limits["recipe"] if not row.differs],
            stages=stages[: MAX_ROWS["algorithm"]],
            groups=groups,
            left_out=left_out,
            limits=limits,
            open_groups=OPEN_GROUPS,
            open_members=OPEN_MEMBERS,
        )
    )


def algorithm_rows(algorithm: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """``(stage, name, parameters)`` from nested or flat descriptions: a mapping's ``name`` is the stage's name."""
    rows = []
    for stage, value in algorithm.items():
        if isinstance(value, Mapping):
            parameters = ", ".join(f"{k} = {_show(v)}" for k, v in value.items() if k != "name")
            rows.append((stage, _show(value.get("name", "")), parameters))
        else:
            rows.append((stage, _show(value), ""))
    return rows


def _show(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_show(v)}" for k, v in value.items()) + "}"
    return str(value)


def _interval(evaluation: Evaluation) -> str:
    if evaluation.accuracy is None:
        return ""
    return interval_svg(evaluation.accuracy, evaluation.interval, reference=evaluation.best_constant)


def _chart(name: str, series: Sequence[tuple[int, float | None]]) -> Chart:
    known = metric(name)
    series = sorted(series, key=lambda point: point[0])
    finite = [v for _, v in series if v is not None and math.isfinite(v)]
    if not finite:
        return Chart(metric=known, svg="", last="", extent="")
    odd = sum(v is not None and not math.isfinite(v) for _, v in series)
    first, last, low, high = (known.show(v, unit=False) for v in (finite[0], finite[-1], min(finite), max(finite)))
    return Chart(
        metric=known,
        svg=Markup(series_svg(series, share=known.share)),
        last=known.show(finite[-1]),
        extent=f"{first} → {last}, between {low} and {high}" + (f", {odd:,} not finite" if odd else ""),
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("askesis.training.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clip": lambda value, limit: clip(str(value), limit),
        "percent": percent,
        "interval": percent_interval,
        "number": format_number,
        "moment": _moment,
        "seconds": format_seconds,
        "brief": format_brief,
    }
    return environment


def _finalize(value: Any) -> Any:
    """Every expression of the template passes here before it is escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%d %b %Y, %H:%M UTC")
