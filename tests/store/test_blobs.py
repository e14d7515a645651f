"""Arrays keep every bit, and an altered blob is noticed."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from askesis.store.blobs import Blob, array_bytes, blob_name, pack, unpack


def packed(data: bytes) -> Blob:
    (blob,) = pack({blob_name(data): data})
    return blob


def test_the_canonical_bytes_are_little_endian() -> None:
    assert array_bytes(np.array([1, 2**32 - 1], np.uint32), "tokens") == b"\x01\0\0\0\xff\xff\xff\xff"
    assert array_bytes(np.array([-0.5], ">f4"), "logprobs") == struct.pack("<f", -0.5)
    assert blob_name(b"abc") == hashlib.sha256(b"abc").digest()


@given(st.lists(st.integers(0, 2**32 - 1), max_size=200))
def test_tokens_come_back(values: list[int]) -> None:
    blob = packed(array_bytes(np.array(values, np.uint32), "tokens"))
    assert unpack(blob, "tokens").tolist() == values
    assert len(blob.data) <= blob.size_bytes == 4 * len(values)


@given(st.binary(max_size=400).filter(lambda b: len(b) % 4 == 0))
def test_logprobs_come_back_bit_for_bit(data: bytes) -> None:
    assert array_bytes(unpack(packed(data), "logprobs"), "logprobs") == data


def test_compressed_only_when_that_is_smaller() -> None:
    noise = np.random.default_rng(0).integers(0, 2**32, 100, dtype=np.uint32).tobytes()
    assert packed(bytes(400)).encoding == "zstd" and len(packed(bytes(400)).data) < 40
    assert packed(noise).encoding == "raw" and packed(noise).data == noise
    assert packed(bytes(8)).encoding == "raw"


def test_any_change_is_noticed() -> None:
    for good in (packed(bytes(range(100))), packed(bytes(400))):
        flipped = bytes([good.data[0] ^ 1]) + good.data[1:]
        changes = [
            {"data": flipped},
            {"data": good.data[:-1]},
            {"size_bytes": good.size_bytes + 4},
            {"encoding": "gzip"},
            {"encoding": "raw" if good.encoding == "zstd" else "zstd"},
            {"hash": bytes(32)},
        ]
        for change in changes:
            with pytest.raises(ValueError, match=f"blob {change.get('hash', good.hash).hex()}: "):
                unpack(replace(good, **change), "tokens")


def test_bytes_that_are_no_whole_array_are_refused() -> None:
    with pytest.raises(ValueError, match="no whole number of values"):
        unpack(packed(b"abc"), "tokens")
