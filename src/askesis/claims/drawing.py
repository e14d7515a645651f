"""The picture of a claim: learning curves, and what each arm reached. The same record gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["draw", "smoothed"]

_WINDOW = 5
_ROW_INCHES = 2.7


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Write an SVG with a row for each setting of :func:`askesis.claims.records.to_record`'s outcome.

    Left: training accuracy, mean over seeds, moving mean of 5 steps; the method's band reaches from the lowest to the
    highest seed. Right: the primary metric with its 95 % interval; dots are seeds.
    """
    import matplotlib
    from matplotlib.figure import Figure

    settings = list(record["settings"])
    names = list(record["algorithms"])
    colours = {name: f"C{place % 10}" for place, name in enumerate(names)}
    with matplotlib.rc_context({"svg.hashsalt": "askesis", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(9, _ROW_INCHES * len(settings)), layout="constrained")
        rows = figure.subplots(len(settings), 2, squeeze=False, width_ratios=(3, 2))
        for (left, right), setting in zip(rows, settings, strict=True):
            cells = [cell for cell in record["arms"] if cell["setting"] == setting]
            title = "" if len(settings) == 1 else f"{setting}: "
            _curves(left, cells, colours, f"{title}training accuracy, %")
            _reached(right, cells, colours, record["primary"])
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def smoothed(values: Sequence[float | None]) -> list[float]:
    """The mean of each value and the four before it, as far as they are known; NaN where none is."""
    means = []
    for end in range(1, len(values) + 1):
        known = [value for value in values[max(0, end - _WINDOW) : end] if value is not None]
        means.append(sum(known) / len(known) if known else float("nan"))
    return means


def _curves(axes: Any, cells: Sequence[Mapping[str, Any]], colours: Mapping[str, str], title: str) -> None:
    for cell in cells:
        steps, colour = cell["curve"]["steps"], colours[cell["arm"]]
        is_method = cell["lead"] is None
        if is_method:
            bounds = [[100 * value for value in smoothed(cell["curve"][side])] for side in ("low", "high")]
            axes.fill_between(steps, *bounds, color=colour, alpha=0.15, linewidth=0)
        mean = [100 * value for value in smoothed(cell["curve"]["mean"])]
        axes.plot(steps, mean, color=colour, linewidth=1.8 if is_method else 1.0, label=cell["arm"])
    axes.set(title=title, xlabel="step")
    axes.spines[["top", "right"]].set_visible(False)


def _reached(axes: Any, cells: Sequence[Mapping[str, Any]], colours: Mapping[str, str], metric: str) -> None:
    for place, cell in enumerate(reversed(cells)):
        reached, colour = cell["metrics"][metric], colours[cell["arm"]]
        low, high = (100 * end for end in reached["ci"])
        axes.plot([low, high], [place, place], color=colour, linewidth=1.5)
        axes.plot(100 * reached["mean"], place, "o", color=colour, markersize=5)
        seeds = [100 * value for value in reached["per_seed"]]
        axes.plot(seeds, [place - 0.25] * len(seeds), ".", color=colour, markersize=3)
    axes.set(title=f"{metric}, %", yticks=range(len(cells)), yticklabels=[c["arm"] for c in reversed(cells)])
    axes.set_ylim(-0.6, len(cells) - 0.4)
    axes.spines[["top", "right"]].set_visible(False)
