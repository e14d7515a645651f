"""Embeddings in files: ``.npy`` and ``.safetensors`` are mapped, ``.parquet`` is read and written block by block.

A finished file appears under its name only when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askesis.alignment.checks import AlignmentError, Source
from askesis.errors import MissingExtra

__all__ = ["SUFFIXES", "open_embeddings", "writing"]

SUFFIXES = (".npy", ".safetensors", ".parquet")
TENSOR = "embeddings"
"""Name of the tensor and of the column that are written; a file with a single one may call it otherwise."""

_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
_ROWS = 8192


def open_embeddings(path: Path) -> Source:
    """Embeddings [n, d] in a file, without reading them all.

    Raises:
        AlignmentError: no such file, another format, not numbers, damaged.
        MissingExtra: a Parquet file, and pyarrow is not installed.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        raise AlignmentError(
            "this is no file of embeddings",
            where=str(path),
            got="a file" if path.is_file() else "no such file",
            expected=f"one of {', '.join(SUFFIXES)}",
        )
    try:
        if path.suffix == ".npy":
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            mapped = _open_safetensors(path) if path.suffix == ".safetensors" else _open_parquet(path)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, AlignmentError):
            raise
        raise AlignmentError("the embeddings cannot be read", where=str(path), got=str(error)) from error
    if mapped.dtype not in (np.float16, np.float32, np.float64):
        raise AlignmentError("these are no embeddings", where=str(path), got=mapped.dtype, expected="floats")
    found: Source = mapped
    return found


@contextmanager
def writing(path: Path, shape: tuple[int, int]) -> Iterator[NDArray[np.float32]]:
    """A mapped array [n, d] whose rows are to be filled; on success it becomes the file ``path``."""
    if path.suffix not in SUFFIXES:
        raise AlignmentError("no such format", where=str(path), expected=f"one of {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        _arrow()  # before the work
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        if path.suffix == ".safetensors":
            mapped = _map_safetensors(temporary, shape)
        else:
            mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
        yield mapped
        mapped.flush()
        if path.suffix == ".parquet":
            _to_parquet(mapped, path)
        else:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _open_safetensors(path: Path) -> Any:
    # The header says where each tensor lies; mapping it reads only the rows that are asked for.
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > path.stat().st_size:
            raise ValueError("its header is damaged")
        header = {k: v for k, v in json.loads(file.read(size)).items() if k != "__metadata__"}
    name = _only(list(header), path, "tensor")
    said = header[name]
    if said["dtype"] not in _DTYPES:
        raise ValueError(f"tensor {name!r} has dtype {said['dtype']}")
    shape = tuple(said["shape"])
    return np.memmap(
        path, mode="r", dtype=_DTYPES[said["dtype"]], shape=shape, offset=8 + size + said["data_offsets"][0]
    )


def _map_safetensors(path: Path, shape: tuple[int, int]) -> Any:
    size = 4 * shape[0] * shape[1]
    header = json.dumps({TENSOR: {"dtype": "F32", "shape": list(shape), "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    return np.memmap(path, mode="r+", dtype=np.float32, shape=shape, offset=8 + len(header))


class _ParquetRows:
    """Rows of a Parquet column of lists; slices are read from the row groups that hold them."""

    def __init__(self, path: Path) -> None:
        self._file = _arrow().parquet.ParquetFile(path)
        self._column = _only(self._file.schema_arrow.names, path, "column")
        groups = [self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum(groups)
        self._group: tuple[int, NDArray[Any]] | None = None
        first = self[0:1]
        self.dtype = first.dtype
        self.shape = (int(self._ends[-1]), first.shape[1])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, step = rows.indices(int(self._ends[-1]))
        parts = []
        for number, end in enumerate(self._ends):
            begin = 0 if number == 0 else int(self._ends[number - 1])
            first = start + max(0, -(-(begin - start) // step)) * step
            if first < min(end, stop):
                parts.append(self._read(number)[first - begin : min(int(end), stop) - begin : step])
        return np.concatenate(parts)

    def _read(self, number: int) -> NDArray[Any]:
        if self._group is None or self._group[0] != number:
            column = self._file.read_row_group(number, columns=[self._column]).column(0).combine_chunks()
            flat = column.flatten().to_numpy(zero_copy_only=False)
            if len(column) and len(flat) % len(column):
                raise ValueError("its rows have different lengths")
            self._group = (number, flat.reshape(len(column), -1))
        return self._group[1]


def _open_parquet(path: Path) -> Any:
    arrow = _arrow()
    try:
        return _ParquetRows(path)
    except arrow.ArrowException as error:
        raise ValueError(str(error)) from error


def _to_parquet(rows: NDArray[np.float32], path: Path) -> None:
    arrow = _arrow()
    schema = arrow.schema([(TENSOR, arrow.list_(arrow.float32(), rows.shape[1]))])
    temporary = path.with_name(f".{path.name}.part")
    try:
        with arrow.parquet.ParquetWriter(temporary, schema) as writer:
            for first in range(0, len(rows), _ROWS):
                flat = arrow.array(np.asarray(rows[first : first + _ROWS]).reshape(-1))
                column = arrow.FixedSizeListArray.from_arrays(flat, rows.shape[1])
                writer.write_table(arrow.Table.from_arrays([column], schema=schema))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _only(names: list[str], path: Path, kind: str) -> str:
    if TENSOR in names:
        return TENSOR
    if len(names) != 1:
        raise AlignmentError(
            f"which {kind} holds the embeddings is not clear",
            where=str(path),
            got=", ".join(names),
            expected=f"a single one, or one called {TENSOR!r}",
        )
    return names[0]


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "reading or writing Parquet files") from None
    return pyarrow
