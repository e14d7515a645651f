"""What is refused, with the row."""

from __future__ import annotations

import numpy as np
import pytest

from askesis.alignment.checks import BLOCK_BYTES, BLOCK_ROWS, AlignmentError, blocks, check_source, unit_rows


@pytest.mark.parametrize("shape", [(3,), (1, 4), (4, 1), (2, 3, 4)])
def test_what_is_no_table_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(AlignmentError, match="no embeddings"):
        check_source(np.ones(shape), "texts")


@pytest.mark.parametrize(("value", "words"), [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (0.0, "zero vector")])
def test_a_bad_row_is_named(value: float, words: str) -> None:
    rows = np.ones((6, 3), dtype=np.float32)
    rows[4] = value
    with pytest.raises(AlignmentError, match=words) as caught:
        unit_rows(rows, name="images", first=100)
    assert "images, row 104" in str(caught.value)


def test_half_precision_is_widened_before_it_is_squared() -> None:
    rows = np.full((2, 4), 1000.0, dtype=np.float16)  # the square of 1000 is no float16
    np.testing.assert_allclose(unit_rows(rows, name="x"), 0.5)


@pytest.mark.parametrize("size", [2, 700, 3_000_000])
def test_blocks_cover_every_row_once_and_begin_at_multiples(size: int) -> None:
    rows = np.broadcast_to(np.arange(1100)[:, None], (1100, size))
    found = list(blocks(rows))
    assert [i for _, part in found for i in part[:, 0]] == list(range(1100))
    assert all(first % BLOCK_ROWS == 0 for first, _ in found)
    assert all(part.nbytes / 2 <= max(BLOCK_BYTES, 4 * BLOCK_ROWS * size) for _, part in found)
