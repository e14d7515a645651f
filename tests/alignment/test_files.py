"""Three formats, read slice by slice and written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file, save_file

from askesis.alignment import AlignmentError
from askesis.alignment.files import SUFFIXES, open_embeddings, writing

ROWS = np.random.default_rng(0).standard_normal((1000, 6)).astype(np.float32)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"x{suffix}"
    with writing(path, (1000, 6)) as rows:
        assert not path.exists()
        rows[:600] = ROWS[:600]
        rows[600:] = ROWS[600:]
    found = open_embeddings(path)
    assert found.shape == (1000, 6)
    for part in (slice(0, 1000), slice(3, 7), slice(990, 1000), slice(0, 1000, 7)):
        np.testing.assert_array_equal(np.asarray(found[part]), ROWS[part])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_fails_half_way_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path / f"x{suffix}", (10, 6)):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_other_programs_read_the_safetensors(tmp_path: Path) -> None:
    with writing(tmp_path / "x.safetensors", (1000, 6)) as rows:
        rows[:] = ROWS
    np.testing.assert_array_equal(load_file(tmp_path / "x.safetensors")["embeddings"], ROWS)
    save_file({"clip": ROWS.astype(np.float16)}, tmp_path / "y.safetensors")
    found = open_embeddings(tmp_path / "y.safetensors")
    np.testing.assert_array_equal(np.asarray(found[5:9]), ROWS[5:9].astype(np.float16))


def test_row_groups_of_any_size_and_a_step_over_them(tmp_path: Path) -> None:
    column = pa.array(list(ROWS.astype(np.float64)))
    parquet.write_table(pa.table({"vector": column}), tmp_path / "x.parquet", row_group_size=37)
    found = open_embeddings(tmp_path / "x.parquet")
    for part in (slice(0, 1000), slice(30, 80), slice(0, 1000, 50), slice(74, 75)):
        np.testing.assert_array_equal(found[part], ROWS[part].astype(np.float64))


def test_what_is_no_file_of_embeddings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AlignmentError, match="no such file"):
        open_embeddings(tmp_path / "x.npy")
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(AlignmentError, match=r"\.npy, \.safetensors, \.parquet"):
        open_embeddings(tmp_path / "x.csv")
    for suffix in SUFFIXES:
        (tmp_path / f"x{suffix}").write_bytes(b"\xff" * 40)
        with pytest.raises(AlignmentError, match="cannot be read"):
            open_embeddings(tmp_path / f"x{suffix}")
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    with pytest.raises(AlignmentError, match="floats"):
        open_embeddings(tmp_path / "words.npy")
    save_file({"a": ROWS, "b": ROWS}, tmp_path / "two.safetensors")
    with pytest.raises(AlignmentError, match="which tensor"):
        open_embeddings(tmp_path / "two.safetensors")
    parquet.write_table(pa.table({"v": [[1.0, 2.0], [1.0]]}), tmp_path / "ragged.parquet")
    with pytest.raises(AlignmentError, match="cannot be read"):
        open_embeddings(tmp_path / "ragged.parquet")[0:2]
    with pytest.raises(AlignmentError, match="no such format"), writing(tmp_path / "x.txt", (1, 1)):
        pass
