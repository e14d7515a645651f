"""Rows of keys and values against plain attention over each row's whole context."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.engines.cache import RowCache
from askesis.engines.kv import Layout, Node

HEADS, GROUP, SIZE = 2, 2, 4
LAYOUT = Layout(num_layers=2, num_kv_heads=HEADS, head_size=SIZE, dtype=torch.float32, device=torch.device("cpu"))


class World:
    """A cache, and beside it each row's context as a plain tensor."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.cache = RowCache(LAYOUT)
        self.rows: list[torch.Tensor] = []

    def node(self, length: int) -> Node:
        node = Node(None, tuple(range(length)))
        node.kv = torch.randn(2, 2, HEADS, length, SIZE, generator=self.random)
        return node

    def admit(self, groups: list[tuple[int, list[int]]]) -> None:
        """Each group: length of the shared block (0 for none), and its rows' own lengths."""
        rows = []
        for shared_length, own_lengths in groups:
            shared = [self.node(shared_length)] if shared_length else []
            for length in own_lengths:
                own = [self.node(length)] if length else []
                rows.append((shared, own))
                kvs = [n.kv for n in shared + own if n.kv is not None]
                self.rows.append(torch.cat(kvs, 3) if kvs else torch.zeros(2, 2, HEADS, 0, SIZE))
        self.cache.admit(rows, room=3)

    def step(self) -> None:
        count = len(self.rows)
        new = torch.randn(2, count, 2, HEADS, SIZE, generator=self.random)
        q = torch.randn(2, count, HEADS * GROUP, SIZE, generator=self.random)
        self.rows = [torch.cat([row, new[:, i, :, :, None]], 3) for i, row in enumerate(self.rows)]
        self.cache.advance()
        for layer in range(2):
            out = self.cache.attend(layer, q[layer], new[layer].flatten(1, 2))
            for i, row in enumerate(self.rows):
                keys, values = (x.repeat_interleave(GROUP, 0) for x in row[layer])
                expected = (q[layer, i][:, None] @ keys.transpose(1, 2)).softmax(-1) @ values
                torch.testing.assert_close(out[i].view(-1, 1, SIZE), expected, atol=3e-6, rtol=1e-4)

    def remove(self, gone: set[int]) -> None:
        count = len(self.rows) - len(gone)
        holes = [r for r in sorted(gone) if r < count]
        movers = [r for r in range(count, len(self.rows)) if r not in gone]
        for hole, mover in zip(holes, movers, strict=True):
            self.rows[hole] = self.rows[mover]
        self.rows = self.rows[:count]
        self.cache.keep(holes, movers, count)


def test_own_blocks_of_different_lengths_grow_past_the_room_made_ready() -> None:
    world = World()
    world.admit([(0, [3, 1, 0])])
    for _ in range(40):
        world.step()
    assert len(world.cache) == 3


def test_groups_share_a_block_and_lose_rows() -> None:
    world = World()
    world.admit([(5, [0, 2, 0]), (9, [1, 1]), (0, [4])])
    world.step()
    world.remove({0, 3})
    world.step()
    world.remove({0, 1, 2})
    world.step()
    assert len(world.cache) == 1


def test_rows_join_while_others_are_sampled() -> None:
    world = World()
    world.admit([(7, [0, 0])])
    world.step()
    world.admit([(0, [20]), (4, [0, 3])])
    for _ in range(20):
        world.step()
    world.admit([(0, [0])])
    world.step()
    assert len(world.cache) == 6


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_history_equals_plain_attention(data: st.DataObject) -> None:
    world = World()
    for _ in range(data.draw(st.integers(1, 4))):
        group = st.tuples(st.sampled_from([0, 1, 6]), st.lists(st.integers(0, 5), min_size=1, max_size=3))
        world.admit(data.draw(st.lists(group, min_size=1, max_size=3)))
        for _ in range(data.draw(st.integers(1, 6))):
            world.step()
        gone = data.draw(st.sets(st.integers(0, len(world.rows) - 1), max_size=len(world.rows) - 1))
        if gone:
            world.remove(gone)
            world.step()


def test_a_rows_own_tokens_are_copied_out() -> None:
    world = World()
    world.admit([(5, [2, 0]), (0, [3])])
    for _ in range(4):
        world.step()
    kept = world.cache.own(0, 1, 5)
    assert kept.equal(world.rows[0][:, :, :, 6:10]) and kept.is_contiguous()
    assert world.cache.own(2, 0, 7).equal(world.rows[2])
