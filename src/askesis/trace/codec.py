"""Canonical bytes of a trace: one byte string per trace, and back.

Layout: ``ASKT``, schema version (uint16), header length (uint32), header (canonical JSON), token ids of the nodes
(uint32), log-probabilities of the calls (float32). All numbers are little-endian. Times are not part of it: a resumed
run writes the bytes that an unbroken one would.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

from askesis.errors import TraceError
from askesis.trace.tree import Call, Node, Trace, TraceBuilder
from askesis.trace.types import Failure, FailureOrigin, Fork, Message, StopReason, canonical_json

__all__ = ["SCHEMA_VERSION", "decode", "encode", "from_parts", "header_of"]

SCHEMA_VERSION = 1
_MAGIC = b"ASKT"
_WHERE = "trace bytes"
_FIXED = struct.Struct("<4sHI")


def header_of(trace: Trace) -> dict[str, Any]:
    """Everything about a trace except its two arrays, JSON-ready."""
    failure = trace.failure
    return {
        "nodes": [[n.parent, len(n.tokens), n.call, n.offset] for n in trace.nodes],
        "calls": [
            {
                "key": c.key,
                "policy_version": c.policy_version,
                "messages": [m.to_dict() for m in c.messages],
                "reply": None if c.reply is None else c.reply.to_dict(),
                "finish": c.finish,
                "sampling": dict(c.sampling),
                "num_context": len(c.context),
                "num_sampled": len(c.sampled),
                # Only where there is one: traces without forks and swaps keep the bytes that they always had.
                **({} if c.fork is None else {"fork": [c.fork.state, c.fork.mode]}),
                **({"swaps": [list(swap) for swap in c.swaps]} if c.swaps else {}),
            }
            for c in trace.calls
        ],
        "stop": trace.stop.value,
        "failure": None
        if failure is None
        else {
            "origin": failure.origin.value,
            "kind": failure.kind,
            "message": failure.message,
            "traceback": failure.traceback,
        },
        "events": [dict(e) for e in trace.events],
    }


def encode(trace: Trace) -> bytes:
    """The canonical bytes of ``trace``."""
    header = canonical_json(header_of(trace))
    tokens = b"".join(n.tokens.astype("<u4").tobytes() for n in trace.nodes)
    logprobs = b"".join(c.logprobs.astype("<f4").tobytes() for c in trace.calls)
    return _FIXED.pack(_MAGIC, SCHEMA_VERSION, len(header)) + header + tokens + logprobs


def decode(data: bytes) -> Trace:
    """The inverse of :func:`encode`. Raises TraceError for anything that is not the canonical form of a trace."""
    if len(data) < _FIXED.size:
        raise _broken("the bytes end inside the fixed header", got=f"{len(data)} bytes")
    magic, version, size = _FIXED.unpack_from(data)
    if magic != _MAGIC:
        raise _broken("these bytes are not a trace", got=magic)
    if version != SCHEMA_VERSION:
        raise _broken(f"schema version {version} is not {SCHEMA_VERSION}", got=version)
    try:
        header = json.loads(data[_FIXED.size : _FIXED.size + size].decode("utf-8", "surrogatepass"))
        num_tokens = sum(length for _, length, _, _ in header["nodes"])
        num_logprobs = sum(c["num_sampled"] for c in header["calls"])
        start = _FIXED.size + size
        if len(data) != start + 4 * (num_tokens + num_logprobs):
            raise _broken("the arrays have the wrong length", got=f"{len(data)} bytes in all")
        tokens = np.frombuffer(data, "<u4", num_tokens, start)
        logprobs = np.frombuffer(data, "<f4", num_logprobs, start + 4 * num_tokens)
        trace = from_parts(header, tokens, logprobs)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, TraceError) and error.where == _WHERE:
            raise
        raise _broken("the header is malformed", got=str(error)) from error
    if encode(trace) != data:
        raise _broken("the bytes are not in canonical form", got=f"{len(data)} bytes")
    return trace


def from_parts(header: dict[str, Any], tokens: np.ndarray, logprobs: np.ndarray) -> Trace:
    """Rebuild a trace from :func:`header_of` and its two arrays; the tree is grown anew and compared with the
    header's.
    """
    shape = header["nodes"]
    for index, (parent, length, _, _) in enumerate(shape):
        # A parent precedes its children: without this a damaged header could send the walk to the root in circles.
        if (
            not (parent is None or (type(parent) is int and 0 <= parent < index))
            or type(length) is not int
            or length < 1
        ):
            raise _broken("a node's parent or length is impossible", got=shape[index])
    ends = np.cumsum([length for _, length, _, _ in shape])
    nodes = [
        Node(parent=parent, tokens=tokens[end - length : end], call=call, offset=offset)
        for (parent, length, call, offset), end in zip(shape, ends, strict=True)
    ]
    calls, start = [], 0
    for record in header["calls"]:
        stop = start + record["num_sampled"]
        calls.append(_call(record, nodes, logprobs[start:stop]))
        start = stop
    failure = header["failure"]
    trace = TraceBuilder(calls).finish(
        StopReason(header["stop"]),
        failure=None if failure is None else Failure(**{**failure, "origin": FailureOrigin(failure["origin"])}),
        events=header["events"],
    )
    if [[n.parent, len(n.tokens), n.call, n.offset] for n in trace.nodes] != shape:
        raise _broken("the nodes are not the tree of the calls", got=shape)
    return trace


def _call(record: dict[str, Any], nodes: list[Node], logprobs: np.ndarray) -> Call:
    own = [i for i, n in enumerate(nodes) if n.call == record["key"]]
    above: list[int] = []
    current = nodes[own[0]].parent
    while current is not None:
        above.append(current)
        current = nodes[current].parent
    context = np.concatenate([nodes[i].tokens for i in reversed(above)])
    if len(context) != record["num_context"]:
        raise _broken("a call's context has the wrong length", got=record["key"])
    return Call(
        key=record["key"],
        context=context,
        sampled=np.concatenate([nodes[i].tokens for i in own]),
        logprobs=logprobs,
        policy_version=record["policy_version"],
        messages=tuple(Message.from_dict(m) for m in record["messages"]),
        reply=None if record["reply"] is None else Message.from_dict(record["reply"]),
        finish=record["finish"],
        sampling=record["sampling"],
        fork=None if "fork" not in record else Fork(state=record["fork"][0], mode=record["fork"][1]),
        swaps=tuple((place, version) for place, version in record.get("swaps", ())),
    )


def _broken(what: str, *, got: object) -> TraceError:
    return TraceError(
        what,
        where=_WHERE,
        got=got,
        expected=f"canonical trace bytes of schema version {SCHEMA_VERSION}",
        next_step="the data was altered or cut, or a newer askesis wrote it; run `askesis store verify`",
    )
