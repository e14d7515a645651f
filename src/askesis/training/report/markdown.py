"""The report's numbers as a short Markdown text, fit to paste into a pull request or a paper's notes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from askesis.training.report.catalog import format_number, format_seconds
from askesis.training.report.data import Estimate, ReportData
from askesis.training.report.headline import headline, percent, percent_interval
from askesis.training.report.html import algorithm_rows
from askesis.training.report.text import clip, visible

__all__ = ["to_markdown"]


def to_markdown(data: ReportData) -> str:
    """Headline, evaluations, failed checks, failures, recipe changes and how to reproduce. Ends with a newline."""
    parts = [f"# {_text(data.summary or data.run_id)}", _headline(data), *_evaluations(data), *_problems(data)]
    changed = [(r.key, r.value, "–" if r.default is None else r.default, r.origin) for r in data.recipe if r.differs]
    stages = algorithm_rows(data.algorithm)
    if stages:
        parts += ["## Algorithm", _table(("stage", "name", "parameters"), stages)]
    if changed:
        parts += ["## Set in this run", _table(("key", "value", "default", "from"), changed)]
    parts += ["## Reproduce", _reproduce(data)]
    return "\n\n".join(parts) + "\n"


def _headline(data: ReportData) -> str:
    head = headline(data)
    values = [
        f"{percent(e.accuracy)} {_text(percent_interval(e.interval))} ({_text(e.label)}, n={e.n:,})"
        for e in (head.before, head.after)
        if e is not None
    ]
    lines = [f"**Held-out accuracy {' → '.join(values)}**", ""] if values else []
    return "\n".join([*lines, _text(head.verdict), *(f"\n> {_text(caveat)}" for caveat in head.caveats)])


def _evaluations(data: ReportData) -> list[str]:
    if not data.evaluations:
        return []
    ks = sorted({k for e in data.evaluations for k in e.pass_at_k})
    header = ("evaluation", "n", "solved", "accuracy", "95 % interval", "temperature", "best constant")
    rows = [
        (
            e.label,
            f"{e.n:,}",
            f"{e.successes:,}",
            percent(e.accuracy),
            percent_interval(e.interval) or "–",
            "–" if e.temperature is None else format_number(e.temperature),
            percent(e.best_constant),
            *(_estimate(e.pass_at_k.get(k)) for k in ks),
            percent(e.format_share),
            percent(e.think_share),
            f"{e.errors:,}",
        )
        for e in data.evaluations
    ]
    names = (*header, *(f"pass@{k}" for k in ks), "in format", "thinks first", "not graded")
    return ["## Evaluations", _table(names, rows)]


def _estimate(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{percent(estimate.value)} {percent_interval(estimate.interval)}".rstrip()


def _problems(data: ReportData) -> list[str]:
    parts = []
    if data.self_checks:
        rows = [(c.name, "passed" if c.passed else "FAILED", c.detail) for c in data.self_checks]
        parts += ["## Self-checks", _table(("check", "result", "detail"), rows)]
    if data.failures:
        failed = [(f.origin, f.kind, f"{f.count:,}", f.example) for f in data.failures]
        parts += ["## Failures", _table(("origin", "kind", "count", "one example"), failed)]
    if data.warnings:
        parts += ["## Warnings", "\n".join(f"- {_text(line)}" for line in data.warnings)]
    return parts


def _reproduce(data: ReportData) -> str:
    facts = [("run", data.run_id), ("status", data.status), ("recipe hash", data.recipe_hash)]
    facts += [("seed", "" if data.seed is None else str(data.seed))]
    facts += [("working time", "" if data.wall_s is None else format_seconds(data.wall_s))]
    facts += [("peak memory", "" if data.peak_rss_mb is None else f"{data.peak_rss_mb:,.0f} MB")]
    facts += sorted(data.versions.items())
    table = _table(("", ""), [pair for pair in facts if pair[1]])
    # Indented, not fenced: a command that holds a fence could end one.
    command = "\n".join(f"    {line}" for line in visible(data.command).splitlines())
    return f"{command}\n\n{table}" if command else table


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        "| " + " | ".join(cell if cell == "---" else _text(cell) for cell in line) + " |" for line in lines
    )


def _text(value: str) -> str:
    """One line in which nothing is markup: no table cell, link, picture or HTML can come from a run's own text."""
    line = " ".join(visible(clip(value, 300)).split())
    return re.sub(r"([\\`*_\[\]<>|&~#])", r"\\\1", line)
