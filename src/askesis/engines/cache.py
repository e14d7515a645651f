"""Keys and values of the rows that are being sampled: one shared block per group of rows, one block of its own per row.

A row's context is [shared block of its group | own block]. Attention over the two is merged by their log-sum-exps, so
a prompt of G answers is kept and read once. Rows that leave are replaced by the last rows: rows 0..B-1 are in use.

Shape suffixes: L layers, B rows, H key-value heads, C columns, D head size, P groups, G rows of the largest group,
R query heads per key-value head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from askesis.engines.attention import Part, attend_block, attend_long, merge
from askesis.engines.kv import Layout, Node, copy_path

__all__ = ["RowCache"]

_COLUMN_STEP = 16


class _Shared(NamedTuple):
    """Which row sits where in the grid of groups."""

    kv: torch.Tensor
    """[L, 2, P, H, C, D]."""
    bias_PC: torch.Tensor | None
    """-inf after the end of a shorter group's block, else 0; None when all have one length."""
    row_G: torch.Tensor
    """Row of each cell of the grid [P * G]; an empty cell repeats row 0."""
    cell_B: torch.Tensor
    outside_B: torch.Tensor | None
    """-inf for rows that belong to no group, else 0; None when every row belongs to one."""


class RowCache:
    """Starts empty; grows with what is admitted.

    The own blocks of all rows end at one column, so that a pass writes one slice; when the columns are used up, the
    part that is still seen moves back to the start.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._own = layout.allocate(0, 0)
        self._bias_BC = torch.empty(0, 0, device=layout.device)
        """-inf before a row's own block, else 0."""
        self._end = 0
        self._size_B = np.zeros(0, dtype=np.int64)
        self._group_B = np.zeros(0, dtype=np.int64)
        self._groups: list[torch.Tensor] = []
        self._shared: _Shared | None = None

    def __len__(self) -> int:
        """Rows in use."""
        return len(self._size_B)

    def admit(self, rows: Sequence[tuple[Sequence[Node], Sequence[Node]]], room: int) -> None:
        """Append rows, each given as (nodes shared with others, nodes of its own), with ``room`` columns to come."""
        start, stop = len(self), len(self) + len(rows)
        sizes = np.array([sum(len(node.tokens) for node in own) for _, own in rows], dtype=np.int64)
        self._reserve(stop, int(sizes.max()), room)
        new = self._own[:, :, start:stop, :, : self._end]
        new.zero_()  # what is masked is still multiplied, so it must be a number
        alike: dict[int, list[int]] = {}
        for place, (_, own) in enumerate(rows):
            if own:
                alike.setdefault(id(own[-1]), []).append(place)
        for places in alike.values():
            size = int(sizes[places[0]])
            block = new[:, :, places[0], :, self._end - size :]
            copy_path(rows[places[0]][1], block)
            new[:, :, places[1:], :, self._end - size :] = block[:, :, None]
        first_B = torch.from_numpy(self._end - sizes).to(self._layout.device)
        hidden_BC = torch.arange(self._bias_BC.shape[1], device=self._layout.device)[None] < first_B[:, None]
        self._bias_BC[start:stop] = torch.where(hidden_BC, -torch.inf, 0.0)
        self._size_B = np.concatenate([self._size_B, sizes])
        self._group_B = np.concatenate([self._group_B, self._assign([shared for shared, _ in rows])])
        self._arrange()

    def keep(self, holes: Sequence[int], movers: Sequence[int], count: int) -> None:
        """Move rows ``movers`` to the places ``holes`` and forget all rows from ``count`` on."""
        if holes:
            to, of = list(holes), list(movers)
            seen = slice(self._end - int(self._size_B[of].max()), self._end)
            self._own[:, :, to, :, seen] = self._own[:, :, of, :, seen]
            self._bias_BC[to] = self._bias_BC[of]
            self._size_B[to], self._group_B[to] = self._size_B[of], self._group_B[of]
        self._size_B, self._group_B = self._size_B[:count], self._group_B[:count]
        self._arrange()

    def own(self, row: int, start: int, stop: int) -> torch.Tensor:
        """A copy of the keys and values of a row's own tokens start..stop-1, [L, 2, H, n, D]."""
        first = self._end - int(self._size_B[row])
        return self._own[:, :, row, :, first + start : first + stop].clone()

    def advance(self) -> None:
        """The next pass appends one token per row."""
        if self._end == self._own.shape[4]:
            self._reserve(len(self), 0, _COLUMN_STEP)
        self._size_B += 1
        self._end += 1
        seen = slice(self._end - int(self._size_B.max()), self._end)
        self._bias_B1C = self._bias_BC[: len(self), None, seen]
        used = self._own[:, :, : len(self)]
        self._newest = used[..., self._end - 1, :].transpose(1, 2).unbind(0)
        self._keys, self._values = (x.unbind(0) for x in used[..., seen, :].unbind(1))

    def visible(self) -> torch.Tensor:
        """Which own columns each row sees in this pass, [B, C] bool."""
        return self._bias_B1C[:, 0] == 0

    def append(self, layer: int, kv_B2HD: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write this pass's keys and values; all own keys and values [B, H, C, D] of each row."""
        self._newest[layer].copy_(kv_B2HD)
        return self._keys[layer], self._values[layer]

    def attend(self, layer: int, q_BED: torch.Tensor, kv_BED: torch.Tensor) -> torch.Tensor:
        """Append and attend: queries [B, H * R, D], new keys then values [B, 2 * H, D]; returns [B, H * R * D]."""
        batch, (heads, size) = len(q_BED), self._keys[layer].shape[1::2]
        k_BHCD, v_BHCD = self.append(layer, kv_BED.view(batch, 2, heads, size))
        q_BHRD = q_BED.reshape(batch, heads, -1, size)
        if self._shared is None:
            scores = torch.bmm(q_BHRD.flatten(0, 1), k_BHCD.flatten(0, 1).mT).float()
            scores.view(batch, -1, scores.shape[-1]).add_(self._bias_B1C)
            weights = scores.softmax(-1).to(v_BHCD.dtype)
            return torch.bmm(weights, v_BHCD.flatten(0, 1)).view(batch, -1)
        own = attend_block(q_BHRD, k_BHCD, v_BHCD, self._bias_B1C)
        return merge(own, self._attend_shared(layer, q_BHRD, self._shared)).to(q_BED.dtype).view(batch, -1)

    def _attend_shared(self, layer: int, q_BHRD: torch.Tensor, shared: _Shared) -> Part:
        num_groups = shared.kv.shape[2]
        q_PGHRD = q_BHRD[shared.row_G].unflatten(0, (num_groups, -1))
        shape = q_PGHRD.shape
        q_PHQD = q_PGHRD.transpose(1, 2).flatten(2, 3)
        part = attend_long(q_PHQD, shared.kv[layer, 0], shared.kv[layer, 1], shared.bias_PC)

        def rows(x: torch.Tensor) -> torch.Tensor:
            in_order: torch.Tensor = x.unflatten(2, (shape[1], shape[3])).transpose(1, 2).flatten(0, 1)
            return in_order[shared.cell_B]

        peak = rows(part.peak)
        if shared.outside_B is not None:
            peak = peak + shared.outside_B
        return Part(rows(part.out), peak, None if part.mass is None else rows(part.mass))

    def _assign(self, shared: Sequence[Sequence[Node]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Group of each new row, -1 for none; a new group keeps the keys and values of its nodes."""
        known: dict[int, int] = {}
        places = np.full(len(shared), -1, dtype=np.int64)
        for row, nodes in enumerate(shared):
            if nodes:
                if id(nodes[-1]) not in known:
                    known[id(nodes[-1])] = len(self._groups)
                    self._groups.append(torch.cat([n.kv for n in nodes if n.kv is not None], 3))
                places[row] = known[id(nodes[-1])]
        if known:
            self._shared = None  # made anew with the new groups
        return places

    def _arrange(self) -> None:
        """Lay the rows out by group."""
        device, members = self._layout.device, np.flatnonzero(self._group_B >= 0)
        if not len(members):
            self._groups, self._shared = [], None
            return
        used, group = np.unique(self._group_B[members], return_inverse=True)
        if self._shared is None or 2 * len(used) <= len(self._groups):
            self._groups = [self._groups[i] for i in used]
            self._group_B[members] = group
            kv, bias_PC = self._stack()
        else:
            kv, bias_PC, group = self._shared.kv, self._shared.bias_PC, self._group_B[members]
        order = np.argsort(group, kind="stable")
        counts = np.bincount(group, minlength=len(self._groups))
        place = np.arange(len(members)) - (np.cumsum(counts) - counts)[group[order]]
        cell = group[order] * counts.max() + place
        row_G, cell_B = np.zeros(len(self._groups) * counts.max(), dtype=np.int64), np.zeros(len(self), dtype=np.int64)
        row_G[cell], cell_B[members[order]] = members[order], cell
        outside = None
        if len(members) < len(self):
            outside = torch.from_numpy(np.where(self._group_B < 0, -np.inf, 0.0).astype(np.float32)).to(device)
        self._shared = _Shared(
            kv,
            bias_PC,
            torch.from_numpy(row_G).to(device),
            torch.from_numpy(cell_B).to(device),
            None if outside is None else outside[:, None, None, None],
        )

    def _stack(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The groups' blocks, padded to one length."""
        width = max(kv.shape[3] for kv in self._groups)
        stacked = self._layout.zeros(len(self._groups), width)
        bias_PC = torch.full((len(self._groups), width), -torch.inf, device=self._layout.device)
        for place, kv in enumerate(self._groups):
            bias_PC[place, : kv.shape[3]] = 0
            self._groups[place] = stacked[:, :, place, :, : kv.shape[3]].copy_(kv)  # a view: kept once
        return stacked, None if bool((bias_PC == 0).all()) else bias_PC

    def _reserve(self, num_rows: int, past: int, room: int) -> None:
        """Make room for rows, for ``past`` columns up to the common end and ``room`` after it, keeping what is seen."""
        rows, columns = self._own.shape[2], self._own.shape[4]
        if num_rows <= rows and past <= self._end and self._end + room <= columns:
            return
        width = int(self._size_B.max(initial=0))
        end = max(width, past)
        room = max(room, width // 2)
        columns = max(columns, -(-(end + room) // _COLUMN_STEP) * _COLUMN_STEP)
        own = self._layout.allocate(max(rows, num_rows), columns)
        bias_BC = torch.zeros(max(rows, num_rows), columns, device=self._layout.device)
        seen, place = slice(self._end - width, self._end), slice(end - width, end)
        own[:, :, :rows, :, : end - width] = 0
        own[:, :, :rows, :, place] = self._own[:, :, :, :, seen]
        bias_BC[:, : end - width] = -torch.inf
        bias_BC[:rows, place] = self._bias_BC[:, seen]
        self._own, self._bias_BC, self._end = own, bias_BC, end
