"""The report of a gap: numbers before and after, the spectra, and both clouds in two dimensions. One HTML file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from askesis.alignment.checks import Array, Source, unit_rows
from askesis.alignment.gap import GapReport, measure_gap, spectrum
from askesis.streams import generator

__all__ = ["draw_gap", "measure_all", "write_report"]

_POINTS = 600
_MEANING = {
    "gap": "distance of the centroids; 0 is best",
    "trace_ratio": "spread of the texts over that of the images; 1 is best",
    "mixing_texts": "images among the 20 neighbours of a text; half is best",
    "mixing_images": "texts among the 20 neighbours of an image; half is best",
    "divergence": "Jensen-Shannon, of the cosines within each cloud; 0 is best",
    "overlap": "a text's 10 nearest texts that stay so; 1 is best",
    "exponent_texts": "power-law exponent of the texts' spectrum",
    "exponent_images": "that of the images",
    "condition_texts": "anisotropy of the texts: first eigenvalue over the one at 95 % of the trace",
    "condition_images": "that of the images",
    "dimensions_texts": "effective dimensions of the texts",
    "dimensions_images": "those of the images",
    "num_images": "images used",
    "num_texts": "texts used",
}


def measure_all(
    images: Source, clouds: Mapping[str, Source], *, original: str, limit: int = 5000
) -> dict[str, GapReport]:
    """The measures of every cloud of texts; ``original`` names the one before aligning."""
    return {
        name: measure_gap(images, texts, original=None if name == original else clouds[original], limit=limit)
        for name, texts in clouds.items()
    }


def write_report(path: Path, images: Source, clouds: Mapping[str, Source], reports: Mapping[str, GapReport]) -> Path:
    """Write the report as one HTML file that needs no network; the picture also lies beside it as SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = draw_gap(images, clouds)
    path.with_suffix(".svg").write_bytes(picture)
    encoded = base64.b64encode(picture).decode("ascii")
    names = [html.escape(name) for name in reports]
    head = "".join(f"<th>{name}</th>" for name in ("measure", *names, "meaning"))
    body = "".join(
        f"<tr><td>{key}</td>{''.join(f'<td>{_shown(r.as_dict()[key])}</td>' for r in reports.values())}"
        f"<td>{meaning}</td></tr>"
        for key, meaning in _MEANING.items()
    )
    style = "body{font:15px sans-serif;max-width:70em;margin:2em auto}td,th{padding:.2em .8em;text-align:left}"
    style += "tr{border-bottom:1px solid #ddd}table{border-collapse:collapse}img{max-width:100%}"
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Modality gap</title><style>{style}</style>'
        f"<h1>Modality gap</h1><table><tr>{head}</tr>{body}</table>"
        f'<img alt="Spectra and projections" src="data:image/svg+xml;base64,{encoded}"></html>\n'
    )
    path.write_text(text, encoding="utf-8")
    return path


def draw_gap(images: Source, clouds: Mapping[str, Source]) -> bytes:
    """An SVG: covariance spectra of all clouds, and each with the images on the plane of largest spread.

    The plane (principal components of the images and of the first cloud together) is the same for all, so that a cloud
    that has moved is seen to have moved. The same clouds give the same bytes.
    """
    import matplotlib
    from matplotlib.figure import Figure

    x = _sample(images, "images")
    shown = {name: _sample(texts, name) for name, texts in clouds.items()}
    both = np.concatenate([x, next(iter(shown.values()))])
    centre = both.mean(axis=0)
    plane = np.linalg.svd(both - centre, full_matrices=False)[2][:2].T
    with matplotlib.rc_context({"svg.hashsalt": "askesis", "svg.fonttype": "none", "font.size": 8}):
        figure = Figure(figsize=(3.1 * (1 + len(shown)), 3.1), layout="constrained")
        spectra, *planes = figure.subplots(1, 1 + len(shown))
        _spectra(spectra, {"images": x, **shown})
        limits = _limits([(rows - centre) @ plane for rows in (x, *shown.values())])
        for axes, (name, rows) in zip(planes, shown.items(), strict=True):
            for cloud, label, colour in ((x, "images", "C0"), (rows, "texts", "C1")):
                at = (cloud - centre) @ plane
                axes.plot(at[:, 0], at[:, 1], ".", markersize=2, alpha=0.5, color=colour, label=label)
                axes.plot(*at.mean(axis=0), "X", markersize=8, color=colour, markeredgecolor="black")
            axes.set(title=name, xticks=[], yticks=[], xlim=limits[0], ylim=limits[1])
        planes[0].legend(loc="upper right", markerscale=3, frameon=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def _spectra(axes: Any, clouds: Mapping[str, Array]) -> None:
    for number, (name, rows) in enumerate(clouds.items()):
        values = spectrum(rows)
        axes.loglog(np.arange(1, len(values) + 1), values / values.sum(), label=name, color=f"C{number}", linewidth=1.2)
    axes.set(title="spectrum of the covariance, share", xlabel="rank")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _limits(points: Sequence[Array]) -> list[tuple[float, float]]:
    low = np.min([p.min(axis=0) for p in points], axis=0)
    high = np.max([p.max(axis=0) for p in points], axis=0)
    margin = 0.05 * (high - low)
    return [(float(a), float(b)) for a, b in zip(low - margin, high + margin, strict=True)]


def _sample(source: Source, name: str) -> Array:
    """Up to 600 rows, drawn without replacement, at unit length."""
    num = source.shape[0]
    rng = generator(0, "alignment", "report", num)
    places = np.sort(rng.choice(num, size=min(_POINTS, num), replace=False))
    return unit_rows(np.concatenate([np.asarray(source[slice(p, p + 1)]) for p in places]), name=name)


def _shown(value: float | int | None) -> str:
    return "–" if value is None else f"{value:.4g}"
