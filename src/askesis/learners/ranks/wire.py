"""What the driver and its ranks say to each other: JSON and tensors in the safetensors format, nothing that runs.

Shape suffixes: B rows, T sampled tokens of a row.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from askesis.algorithms import Algorithm, Sums, build
from askesis.errors import AlgorithmError, RecipeError
from askesis.learners.batch import Row
from askesis.learners.shares import Piece, Share

__all__ = [
    "HEADER",
    "Message",
    "pack_message",
    "read_algorithm",
    "read_pieces",
    "read_rows",
    "read_shares",
    "unpack_message",
    "write_algorithm",
    "write_pieces",
    "write_rows",
    "write_shares",
]

HEADER = struct.Struct(">QQ")
"""Bytes of the JSON and of the tensors that follow."""
_TABLES = tuple(field.name for field in fields(Piece) if field.name not in ("cut", "rows"))


_UNKNOWN: dict[str, Any] = {
    field.name: np.empty(0, np.float32) for field in fields(Row) if field.name not in ("tokens", "at", "sample")
}


class Message(NamedTuple):
    """A request or an answer."""

    head: dict[str, Any]
    """JSON-ready; a request names in ``do`` what is to be done."""
    tensors: dict[str, Tensor]


def pack_message(message: Message) -> list[bytes]:
    """The message as bytes, in parts that are sent one after the other."""
    head = json.dumps(message.head).encode()
    plain: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in message.tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage().data_ptr()  # the format holds no two tensors of the same memory
        plain[name] = own.clone() if storage in seen else own
        seen.add(storage)
    body = save(plain) if plain else b""
    return [HEADER.pack(len(head), len(body)) + head, body]


def unpack_message(head: bytes, body: bytes) -> Message:
    """Back from the two parts that follow the header."""
    return Message(json.loads(head), load(body) if body else {})


def write_algorithm(algorithm: Algorithm) -> dict[str, Any]:
    """The names and numbers that an algorithm is made from. Raises AlgorithmError when they are not all of it."""
    own = {field.name: getattr(algorithm, field.name) for field in fields(algorithm)}
    written = {
        "name": algorithm.name,
        "options": {**algorithm.stages, **algorithm.params},
        "own": {name: value for name, value in own.items() if value is None or isinstance(value, bool | int | float)},
    }
    try:
        is_whole = replace(read_algorithm(written), changed=algorithm.changed) == algorithm
    except RecipeError:
        is_whole = False
    if not is_whole:
        raise AlgorithmError(
            "ranks cannot build an algorithm that is not made from a preset and its options",
            where=algorithm.name,
            next_step="set cluster.learner_ranks=1, or register the preset and its stages by an entry point",
        )
    return written


def read_algorithm(written: Mapping[str, Any]) -> Algorithm:
    """Back from :func:`write_algorithm`."""
    return replace(build(written["name"], written["options"]), **written["own"])


def write_rows(rounds: Sequence[Sequence[Row]]) -> Message:
    """The rows of several micro-batches: what a scorer reads of them."""
    rows = [row for chosen in rounds for row in chosen]
    head = {
        "rows": [len(chosen) for chosen in rounds],
        "tokens": [len(row.tokens) for row in rows],
        "at": [len(row.at) for row in rows],
    }
    tokens, at = (np.concatenate(column) for column in zip(*((row.tokens, row.at) for row in rows), strict=True))
    return Message(
        head, {"tokens": torch.from_numpy(tokens.astype(np.int64)), "at": torch.from_numpy(at.astype(np.int64))}
    )


def read_rows(message: Message) -> list[list[Row]]:
    """Back from :func:`write_rows`. The rows belong to no sample and know nothing of how they were drawn."""
    head = message.head
    tokens = iter(np.split(message.tensors["tokens"].numpy().astype(np.uint32), np.cumsum(head["tokens"])[:-1]))
    at = iter(np.split(message.tensors["at"].numpy(), np.cumsum(head["at"])[:-1]))
    return [
        [Row(tokens=next(tokens), at=next(at), sample=0, **_UNKNOWN) for _ in range(count)] for count in head["rows"]
    ]


def write_pieces(pieces: Sequence[Piece]) -> Message:
    """Micro-batches, one for each round."""
    head, tensors = write_rows([piece.rows for piece in pieces])
    for number, piece in enumerate(pieces):
        for name in _TABLES:
            table = getattr(piece, name)
            if table is not None:
                tensors[f"{number}/{name}"] = table
    return Message(head, tensors)


def read_pieces(message: Message, device: torch.device) -> list[Piece]:
    """Back from :func:`write_pieces`; cuts are left empty."""
    return [
        Piece(
            cut=[],
            rows=tuple(rows),
            **{
                name: message.tensors[key].to(device)
                for name in _TABLES
                if (key := f"{number}/{name}") in message.tensors
            },
        )
        for number, rows in enumerate(read_rows(message))
    ]


def write_shares(shares: Sequence[Share]) -> Message:
    """What came of the pieces, in their order."""
    head = [
        {
            "loss": share.loss,
            "diagnostics": {name: [float(s.total), float(s.count)] for name, s in share.diagnostics.items()},
        }
        for share in shares
    ]
    return Message({"shares": head}, {str(number): share.logp_BT for number, share in enumerate(shares)})


def read_shares(message: Message, device: torch.device) -> list[Share]:
    """Back from :func:`write_shares`; cuts are left empty, and there is nothing to differentiate."""

    def sums(values: Mapping[str, Sequence[float]]) -> dict[str, Sums]:
        return {
            name: Sums(total=torch.tensor(total), count=torch.tensor(count)) for name, (total, count) in values.items()
        }

    return [
        Share(
            to_differentiate=torch.zeros(()),
            loss=share["loss"],
            diagnostics=sums(share["diagnostics"]),
            cut=[],
            logp_BT=message.tensors[str(number)].to(device),
        )
        for number, share in enumerate(message.head["shares"])
    ]
