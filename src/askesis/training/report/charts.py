"""Small line charts as inline SVG.

Matplotlib draws; what it writes is then cut down to what a web page needs: no XML header, no metadata, no ids, no clip
paths (they would need ``url(#...)``), no fonts, and colours that follow the page's light or dark scheme. Charts hold
numbers only, never text that a model or a user wrote. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from askesis.evaluation import Interval
from askesis.training.report.catalog import format_number

__all__ = ["MAX_POINTS", "downsample", "interval_svg", "series_svg"]

MAX_POINTS = 400
Series = Sequence[tuple[int, float | None]]

# Stand-ins that Matplotlib can draw with; each becomes a variable of the page's style sheet.
INK, SOFT, GRID, ACCENT, MARK = "#010203", "#010204", "#010205", "#010206", "#010207"
_VARIABLES = {INK: "--ink", SOFT: "--soft", GRID: "--grid", ACCENT: "--accent", MARK: "--mark"}
_POINTS_PER_PIXEL = 0.75


def downsample(series: Series) -> list[tuple[int, float]]:
    """At most ``MAX_POINTS`` points; the lowest and the highest of each stretch stay. A gap is a NaN.

    Values that are None or not finite become gaps; a gap between kept points survives.
    """
    steps = np.array([s for s, _ in series], dtype=np.int64)
    values = np.array([math.nan if v is None or not math.isfinite(v) else v for _, v in series], dtype=np.float64)
    keep: list[int] = []
    if len(steps) <= MAX_POINTS:
        keep = list(range(len(steps)))
    else:
        # Four of each stretch: both ends, so that lines meet, and both extremes; a gap takes an extreme's place.
        for part in np.array_split(np.arange(len(steps)), MAX_POINTS // 4):
            chosen = {int(part[0]), int(part[-1])}
            finite = part[np.isfinite(values[part])]
            if len(finite):
                chosen |= {int(finite[np.argmin(values[finite])]), int(finite[np.argmax(values[finite])])}
            keep.extend(sorted(chosen))
    return [(int(steps[i]), float(values[i])) for i in keep]


def _measured(series: Series) -> Series:
    """A metric that is never known at two steps in a row is measured now and then: its gaps are no gaps."""
    known = [value is not None and math.isfinite(value) for _, value in series]
    if any(a and b for a, b in itertools.pairwise(known)):
        return series
    return [point for point, is_known in zip(series, known, strict=True) if is_known]


def series_svg(series: Series, *, share: bool = False, width: int = 300, height: int = 132) -> str:
    """A line chart of one metric in step order, ``width`` x ``height`` pixels; ``share`` labels in per cent.

    Needs at least one finite value.
    """
    points = downsample(_measured(series))
    # The limits stay finite even for the largest floats; NaN passes through.
    steps, values = [p[0] for p in points], np.clip([p[1] for p in points], -1e300, 1e300).tolist()
    figure = _figure(width, height)
    axes = figure.add_axes((46 / width, 20 / height, (width - 58) / width, (height - 30) / height))
    finite = [v for v in values if math.isfinite(v)]
    axes.plot(steps, values, color=ACCENT, linewidth=1.3, clip_on=False)
    if len(finite) <= 20:
        _dots(axes, steps, values, 3.4)
    last = max(i for i, v in enumerate(values) if math.isfinite(v))
    _dots(axes, [steps[last]], [values[last]], 5.0)
    _scale(axes, steps, finite, share)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.grid(axis="y", color=GRID, linewidth=0.75, clip_on=False)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=SOFT, pad=4)
    return _to_svg(figure, width, height)


def _scale(axes: Any, steps: Sequence[int], values: Sequence[float], share: bool) -> None:
    """Limits with some air, two or three labels on the left, first and last step below."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    low, high = min(values), max(values)
    counts = not share and all(value == int(value) for value in values)
    air = 0.06 * (high - low) or max(abs(high) * 0.1, 0.1)
    bottom = low - air
    axes.set_ylim(0.0 if low >= 0 > bottom else bottom, high + air)
    axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, steps=[1, 2, 2.5, 5, 10], integer=counts))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %" if share else _short(value)))
    axes.xaxis.set_major_locator(FixedLocator(sorted({steps[0], steps[-1]})))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value):,}"))
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    if len(labels) > 1:
        labels[-1].set_horizontalalignment("right")


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return format_number(float(f"{value:.6g}")).replace("-", "\N{MINUS SIGN}")


def interval_svg(
    value: float, interval: Interval | None, *, reference: float | None = None, width: int = 420, height: int = 26
) -> str:
    """One value between 0 and 1 as a dot with its error bar; ``reference`` is a dashed mark to compare it with."""
    figure, axes = _track(width, height)
    axes.plot([0, 1], [0, 0], color=GRID, linewidth=0.75, clip_on=False)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        axes.plot([tick, tick], [-1, 1], color=GRID, linewidth=0.75, clip_on=False)
    if reference is not None:
        axes.plot([reference] * 2, [-1, 1], color=MARK, linewidth=1.5, linestyle=(0, (2, 1.5)), clip_on=False)
    if interval is not None:
        low, high = interval
        axes.plot([low, high], [0, 0], color=ACCENT, linewidth=2.2, clip_on=False)
        for end in interval:
            axes.plot([end, end], [-0.4, 0.4], color=ACCENT, linewidth=1.6, clip_on=False)
    _dots(axes, [value], [0], 8.0)
    return _to_svg(figure, width, height)


def _dots(axes: Any, xs: Sequence[float], ys: Sequence[float], size: float) -> None:
    """Round dots as lines of no length: Matplotlib's own markers refer to ids, which would clash within a page."""
    for x, y in zip(xs, ys, strict=True):
        axes.plot([x, x], [y, y], color=ACCENT, linewidth=size, solid_capstyle="round", clip_on=False)


def _track(width: int, height: int) -> tuple[Any, Any]:
    figure = _figure(width, height)
    margin = 18 / width
    axes = figure.add_axes((margin, 0, 1 - 2 * margin, 1))
    axes.set_xlim(0, 1)
    axes.set_ylim(-1, 1)
    axes.axis("off")
    return figure, axes


def _figure(width: int, height: int) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 96, height / 96), dpi=96)
    figure.patch.set_visible(False)
    return figure


def _to_svg(figure: Any, width: int, height: int) -> str:
    import matplotlib

    for axes in figure.axes:
        axes.patch.set_visible(False)
    out = io.StringIO()
    settings = {"svg.hashsalt": "askesis", "svg.fonttype": "none", "path.simplify": False, "axes.unicode_minus": True}
    with matplotlib.rc_context(settings):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _slim(out.getvalue(), width, height)


def _slim(svg: str, width: int, height: int) -> str:
    body = svg[svg.index("<g ") : svg.rindex("</svg>")]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' id="[^"]*"', "", body)
    # Tenths of a point in coordinates; the numbers of labels stand between tags and stay as they are.
    body = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d)\d+", r"\1", tag[0]), body)
    body = re.sub(r"; font-family: [^;\"]*", "", body)
    body = re.sub(r' transform="rotate\(-?0 [^"]*"', "", body)
    body = body.replace("<g/>", "").replace("; stroke-linecap: square", "").replace("fill: none; ", "fill:none;")
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, f"var({variable})")
    body = re.sub(r"\s*\n\s*", " ", body)
    size = f"{_POINTS_PER_PIXEL * width:g} {_POINTS_PER_PIXEL * height:g}"
    return f'<svg viewBox="0 0 {size}" width="{width}" height="{height}" aria-hidden="true">{body}</svg>'
