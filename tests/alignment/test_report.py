"""The report: numbers and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from askesis.alignment import EmbeddingAligner
from askesis.alignment.report import draw_gap, measure_all, write_report


def test_a_report_shows_before_and_after(pairs: Any, tmp_path: Path) -> None:
    clouds = {"texts": pairs.texts, "a<b": EmbeddingAligner().fit_transform(pairs.images, pairs.texts)}
    found = measure_all(pairs.images, clouds, original="texts", limit=400)
    assert found["texts"].overlap is None and found["a<b"].overlap is not None
    path = write_report(tmp_path / "new" / "report.html", pairs.images, clouds, found)
    text = path.read_text()
    assert "a&lt;b" in text and "<td>gap</td>" in text and f"{found['a<b'].gap:.4g}" in text and "http" not in text
    assert path.with_suffix(".svg").read_bytes() == draw_gap(pairs.images, clouds)


def test_the_picture_is_an_svg_and_names_the_clouds(pairs: Any) -> None:
    picture = draw_gap(pairs.images, {"before": pairs.texts})
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert b"before" in picture and b"spectrum" in picture
