"""The picture of a claim: progress curves, and what each arm reached. The same record gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from askesis.claims.claim import SHARE

__all__ = ["draw", "smoothed"]

_ROW_INCHES = 2.7
_MAX_PANELS = 3


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Write an SVG with a row for each setting of :func:`askesis.claims.records.to_record`'s outcome.

    Left, where the claim has one: the progress curve, mean over seeds; the method's band reaches from the lowest to the
    highest seed. Right: the first metric with its 95 % interval; dots are seeds. Without a curve: the first metrics.
    """
    import matplotlib
    from matplotlib.figure import Figure

    settings = list(dict.fromkeys(cell["setting"] for cell in record["arms"]))
    names = dict.fromkeys(cell["arm"] for cell in record["arms"])
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)}
    label = record["curve"]
    metrics = record["metrics"][: 1 if label else _MAX_PANELS]
    widths = [*([3] if label else []), *[2 if label else 1] * len(metrics)]
    with matplotlib.rc_context({"svg.hashsalt": "askesis", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, _ROW_INCHES * len(settings)), layout="constrained")
        rows = figure.subplots(len(settings), len(widths), squeeze=False, width_ratios=widths)
        for row, setting in zip(rows, settings, strict=True):
            cells = [cell for cell in record["arms"] if cell["setting"] == setting]
            title = "" if len(settings) == 1 else f"{setting}: "
            panels = list(row)
            if label:
                _curves(panels.pop(0), cells, colours, label, title)
                title = ""
            for place, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
                _reached(axes, cells, colours, metric["name"], metric["unit"], title, named=place == 0)
                title = ""
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def smoothed(values: Sequence[float | None], window: int) -> list[float]:
    """The mean of each value and those before it in the window, as far as they are known; NaN where none is."""
    means = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - window) : end] if value is not None]
        means.append(sum(known) / len(known) if known else float("nan"))
    return means


def _curves(
    axes: Any, cells: Sequence[Mapping[str, Any]], colours: Mapping[str, str], label: Mapping[str, Any], title: str
) -> None:
    factor = _factor(label["unit"])
    for cell in cells:
        steps, colour = cell["curve"]["steps"], colours[cell["arm"]]
        is_method = cell["lead"] is None
        low, high, mean = (
            [factor * value for value in smoothed(cell["curve"][side], label["window"])]
            for side in ("low", "high", "mean")
        )
        if is_method:
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(steps, mean, color=colour, linewidth=1.8 if is_method else 1.0, label=cell["arm"])
    axes.set(title=title + _titled(label["name"], label["unit"]), xlabel=label["x"])
    axes.spines[["top", "right"]].set_visible(False)


def _reached(
    axes: Any,
    cells: Sequence[Mapping[str, Any]],
    colours: Mapping[str, str],
    metric: str,
    unit: str,
    title: str,
    *,
    named: bool,
) -> None:
    factor = _factor(unit)
    for place, cell in enumerate(reversed(cells)):
        reached, colour = cell["metrics"][metric], colours[cell["arm"]]
        low, high = (factor * end for end in reached["ci"])
        axes.plot([low, high], [place, place], color=colour, linewidth=1.5)
        axes.plot(factor * reached["mean"], place, "o", color=colour, markersize=5)
        seeds = [factor * value for value in reached["per_seed"]]
        axes.plot(seeds, [place - 0.25] * len(seeds), ".", color=colour, markersize=3)
    names = [c["arm"] if named else "" for c in reversed(cells)]
    axes.set(title=title + _titled(metric, unit), yticks=range(len(cells)), yticklabels=names)
    axes.set_ylim(-0.6, len(cells) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)


def _factor(unit: str) -> float:
    return 100.0 if unit == SHARE else 1.0


def _titled(name: str, unit: str) -> str:
    return f"{name}, {unit}" if unit else name
