"""Packing sequences with common prefixes so that every distinct token appears once.

Sequences are sorted; each then shares a prefix with the one before it, and only the rest is appended. The packed tokens
are so in pre-order: a run of tokens is followed by everything that continues it. One number per token says where its
subtree ends, and with that

    token i sees token j  <=>  j <= i < end_N[j]

which is causal attention along the branch of i, and nothing else.

Shape suffixes: N packed tokens, R runs (maximal stretches without a fork).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Forest", "common_prefix", "pack", "sort_key"]

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forest:
    """Token sequences as a packed forest."""

    ids_N: Ints
    """Token ids in pre-order."""
    position_N: Ints
    """Depth in the branch, from 0."""
    parent_N: Ints
    """Packed index of the token before it in the branch; -1 for a first token."""
    end_N: Ints
    """Where the subtree of the token's run ends (exclusive)."""
    start_R: Ints
    """Packed index of the first token of each run, ascending."""
    stop_R: Ints
    """One past its last token."""
    end_R: Ints
    """One past the last token below it; equal to ``stop_R`` for a leaf."""
    level_R: Ints
    """Runs above it."""
    rows: tuple[Ints, ...]
    """For each packed sequence, in the order given, the packed index of each of its tokens."""

    @property
    def num_path_tokens(self) -> int:
        """Tokens that per-sequence training would process."""
        return sum(len(row) for row in self.rows)


def sort_key(tokens: NDArray[np.uint32]) -> bytes:
    """A key whose order is the lexicographic order of the token sequences."""
    return tokens.astype(">u4").tobytes()


def common_prefix(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> int:
    """How many tokens ``a`` and ``b`` share from the start."""
    size = min(len(a), len(b))
    differs = a[:size] != b[:size]
    return int(differs.argmax()) if differs.any() else size


def pack(sequences: Sequence[NDArray[np.uint32]]) -> Forest:
    """Pack ``sequences`` (at least one, none empty); equal prefixes are kept once."""
    order = sorted(range(len(sequences)), key=lambda i: sort_key(sequences[i]))
    rows: list[Ints] = [np.empty(0, np.int64)] * len(sequences)
    ids, positions, parents = [], [], []
    size = 0
    last_tokens, last_row = np.empty(0, np.uint32), np.empty(0, np.int64)
    for index in order:
        tokens = sequences[index]
        shared = common_prefix(tokens, last_tokens)
        fresh = np.arange(size, size + len(tokens) - shared)
        if len(fresh):
            parent = fresh - 1
            parent[0] = last_row[shared - 1] if shared else -1
            ids.append(tokens[shared:].astype(np.int64))
            positions.append(np.arange(shared, len(tokens)))
            parents.append(parent)
        last_tokens, last_row = tokens, np.concatenate([last_row[:shared], fresh])
        rows[index] = last_row
        size += len(fresh)
    return _forest(np.concatenate(ids), np.concatenate(positions), np.concatenate(parents), tuple(rows))


def _forest(ids_N: Ints, position_N: Ints, parent_N: Ints, rows: tuple[Ints, ...]) -> Forest:
    """Find the runs: a token starts one where a branch forks."""
    size = len(ids_N)
    num_children_N = np.bincount(parent_N[parent_N >= 0], minlength=size)
    is_start_N = np.ones(size, np.bool_)
    is_start_N[1:] = (parent_N[1:] != np.arange(size - 1)) | (num_children_N[:-1] > 1)
    start_R = is_start_N.nonzero()[0]
    stop_R = np.append(start_R[1:], size)
    run_N = np.cumsum(is_start_N) - 1
    above_R = [int(run_N[p]) if p >= 0 else -1 for p in parent_N[start_R]]
    level_R = np.zeros(len(start_R), np.int64)
    for run, above in enumerate(above_R):
        if above >= 0:
            level_R[run] = level_R[above] + 1
    end_R = stop_R.copy()
    for run in range(len(above_R) - 1, -1, -1):
        above = above_R[run]
        if above >= 0:
            end_R[above] = max(end_R[above], end_R[run])
    return Forest(
        ids_N=ids_N,
        position_N=position_N,
        parent_N=parent_N,
        end_N=end_R[run_N],
        start_R=start_R,
        stop_R=stop_R,
        end_R=end_R,
        level_R=level_R,
        rows=rows,
    )
