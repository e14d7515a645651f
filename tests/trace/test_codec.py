"""Canonical bytes: exact round trip, every change noticed."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.errors import TraceError
from askesis.trace import Call, Failure, FailureOrigin, Message, StopReason, Trace, TraceBuilder, decode, encode
from askesis.trace.codec import from_parts, header_of

text = st.text(max_size=8)


def sample() -> Trace:
    calls = [
        Call(
            key=0,
            context=[1, 2],
            sampled=[7, 8],
            logprobs=[-0.25, -1.5],
            policy_version=3,
            messages=(Message(role="user", content="héllo \ud800"),),
            reply=Message(role="assistant", content="x"),
            sampling={"temperature": 1.0},
            swaps=((1, 4),),
        ),
        Call(key=1, context=[1, 2, 7, 4], sampled=[9], logprobs=[-2.0], finish="length"),
    ]
    failure = Failure(origin=FailureOrigin.TOOL, kind="timeout", message="late")
    return TraceBuilder(calls).finish(StopReason.FAILED, failure=failure, events=[{"tool": "clock", "ok": False}])


def test_round_trip_keeps_everything() -> None:
    trace = sample()
    again = decode(encode(trace))
    assert encode(again) == encode(trace)
    assert again.failure == trace.failure and again.stop is StopReason.FAILED
    assert again.calls[0].messages == trace.calls[0].messages and again.calls[0].sampling == {"temperature": 1.0}
    assert again.calls[0].logprobs.tolist() == [-0.25, -1.5]
    assert again.calls[0].swaps == ((1, 4),) and again.calls[1].swaps == ()
    assert [n.tokens.tolist() for n in again.nodes] == [n.tokens.tolist() for n in trace.nodes]


def test_the_layout_is_the_documented_one() -> None:
    data = encode(TraceBuilder([Call(key=0, context=[5], sampled=[6], logprobs=[-1.0])]).finish(StopReason.TERMINATED))
    magic, version, size = struct.unpack_from("<4sHI", data)
    assert (magic, version) == (b"ASKT", 1)
    assert data[10 + size :] == struct.pack("<IIf", 5, 6, -1.0)


def test_every_single_flipped_bit_gives_other_contents_or_our_error() -> None:
    good = encode(sample())
    for place in range(len(good) * 8):
        bad = bytearray(good)
        bad[place // 8] ^= 1 << (place % 8)
        try:
            assert encode(decode(bytes(bad))) == bytes(bad) != good
        except TraceError as error:
            assert error.next_step is not None


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000))
def test_cut_bytes_are_refused(cut: int) -> None:
    good = encode(sample())
    with pytest.raises(TraceError):
        decode(good[: cut % len(good)])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(junk: bytes) -> None:
    with pytest.raises(TraceError):
        decode(b"ASKT\x01\x00" + junk)


def test_a_newer_schema_is_refused_by_name() -> None:
    data = bytearray(encode(sample()))
    data[4] = 2
    with pytest.raises(TraceError, match="schema version 2"):
        decode(bytes(data))


@pytest.mark.parametrize(
    "node", [[1, 1, 0, 0], [2, 1, 0, 0], [-1, 1, 0, 0], [0, 0, 0, 0], [0, -1, 0, 0], [True, 1, 0, 0]]
)
def test_impossible_nodes_are_refused_at_once(node: list[int]) -> None:
    call = Call(key=0, context=[5], sampled=[6], logprobs=[-1.0])
    header = json.loads(json.dumps(header_of(TraceBuilder([call]).finish(StopReason.TERMINATED))))
    header["nodes"][1] = node
    with pytest.raises(TraceError, match="impossible"):
        from_parts(header, np.array([5, 6], np.uint32), np.array([-1.0], np.float32))


def test_deeply_nested_headers_are_refused() -> None:
    header = b"[" * 200_000
    with pytest.raises(TraceError):
        decode(struct.pack("<4sHI", b"ASKT", 1, len(header)) + header)


def test_traces_without_a_change_of_weights_keep_the_bytes_that_they_always_had() -> None:
    trace = TraceBuilder([Call(key=0, context=[5], sampled=[6], logprobs=[-1.0])]).finish(StopReason.TERMINATED)
    assert b"swaps" not in encode(trace) and b"swaps" in encode(sample())
