"""Arrays as content-addressed bytes.

A blob is named by the SHA-256 of its canonical bytes: little-endian values, no header, not compressed. So equal arrays
are stored once, and a blob that was altered no longer bears its name. On disk it is compressed only when that makes it
smaller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

__all__ = ["Blob", "array_bytes", "blob_name", "pack", "unpack"]

_DTYPES = {"tokens": np.dtype("<u4"), "logprobs": np.dtype("<f4")}
_SMALLEST_COMPRESSED = 64
"""Below this many bytes a zstd frame's own overhead eats the gain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A stored form: ``encoding`` is raw or zstd, ``size_bytes`` the length of the canonical bytes."""

    hash: bytes
    size_bytes: int
    encoding: str
    data: bytes


def array_bytes(array: NDArray[Any], kind: str) -> bytes:
    """The canonical bytes of ``tokens`` (uint32 [n]) or ``logprobs`` (float32 [n])."""
    return array.astype(_DTYPES[kind], copy=False).tobytes()


def blob_name(data: bytes) -> bytes:
    """The content address of canonical bytes."""
    return hashlib.sha256(data).digest()


def pack(contents: Mapping[bytes, bytes]) -> list[Blob]:
    """Canonical bytes, by their names, as they are stored."""
    compressor = zstandard.ZstdCompressor(level=3)
    packed = []
    for name, data in contents.items():
        small = compressor.compress(data) if len(data) >= _SMALLEST_COMPRESSED else data
        encoding, stored = ("zstd", small) if len(small) < len(data) else ("raw", data)
        packed.append(Blob(hash=name, size_bytes=len(data), encoding=encoding, data=stored))
    return packed


def unpack(blob: Blob, kind: str) -> NDArray[Any]:
    """The array of a stored blob. Raises ValueError if it is not what its name says."""
    data = blob.data
    if blob.encoding == "zstd":
        try:
            if zstandard.frame_content_size(data) != blob.size_bytes:
                raise _altered(blob, "the compressed frame has another length")
            data = zstandard.ZstdDecompressor().decompress(data)
        except zstandard.ZstdError as error:
            raise _altered(blob, str(error)) from error
    elif blob.encoding != "raw":
        raise _altered(blob, f"unknown encoding {blob.encoding!r}")
    if len(data) != blob.size_bytes or blob_name(data) != blob.hash:
        raise _altered(blob, "the bytes do not match the hash")
    if len(data) % 4:
        raise _altered(blob, f"{len(data)} bytes are no whole number of values")
    return np.frombuffer(data, _DTYPES[kind])


def _altered(blob: Blob, problem: str) -> ValueError:
    return ValueError(f"blob {blob.hash.hex()}: {problem}")
