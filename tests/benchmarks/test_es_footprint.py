"""The table of the documentation is the one that the command prints."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.es_footprint import MODELS, evolution_bytes, file_bytes, gradient_bytes, table

PAGE = Path(__file__).parents[2] / "docs" / "evolution_strategies.md"


def test_the_page_shows_what_the_command_prints() -> None:
    assert table() in PAGE.read_text()


def test_by_hand() -> None:
    small = MODELS[0]
    assert small.kv_numbers == 65536 * 2 * 24 * 2 * 64
    assert evolution_bytes(small) == pytest.approx(4 * 0.494e9 + 805_306_368 + 24 * (1 << 20))
    assert gradient_bytes(small) == pytest.approx(20 * 0.494e9 + 1_610_612_736)
    assert file_bytes(small, displaced=True) == 2 * file_bytes(small, displaced=False) == 8 * 0.494e9
