"""The picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from askesis.claims.drawing import draw, smoothed
from askesis.claims.judging import judge
from askesis.claims.records import to_record


def test_smoothing_is_a_mean_of_what_is_known() -> None:
    assert smoothed([1.0, 3.0, None, 2.0, 2.0, 2.0, 6.0], 5) == [1.0, 2.0, 2.0, 2.0, 2.0, 2.25, 3.0]
    assert math.isnan(smoothed([None, 1.0], 5)[0])


def test_the_same_record_gives_the_same_picture(make_study: Any, make_run: Any, tmp_path: Path) -> None:
    made = [make_run(arm, seed, [seed, 2]) for arm in ("ours", "nsr", "psr") for seed in range(3)]
    record = to_record(judge(make_study(), "laptop", 3, made, wall_s=1.0), {})
    for name in ("a.svg", "b.svg"):
        draw(record, tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert all(word in text for word in ("ours", "nsr", "psr", "pass@1", "training accuracy"))
