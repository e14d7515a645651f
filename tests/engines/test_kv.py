"""The radix tree: what goes in comes out, shared heads once, forgotten in order of use."""

from __future__ import annotations

import gc
import weakref

import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.engines.kv import Layout, Node, PrefixTree, copy_path

LAYOUT = Layout(num_layers=1, num_kv_heads=1, head_size=1, dtype=torch.float32, device=torch.device("cpu"))


def fill(path: list[Node]) -> None:
    """Give each new node its tokens as keys and values."""
    for node in path:
        if node.kv is None:
            node.kv = torch.tensor(node.tokens, dtype=torch.float32).view(1, 1, 1, -1, 1).expand(1, 2, 1, -1, 1).clone()


def read(path: list[Node], length: int) -> list[int]:
    out = torch.full((1, 2, 1, length, 1), -1.0)
    copy_path(path, out)
    assert out[:, 0].equal(out[:, 1])
    return out[0, 0, 0, :, 0].int().tolist()


def all_nodes(tree: PrefixTree) -> list[Node]:
    stack, found = list(tree._roots.values()), []
    while stack:
        node = stack.pop()
        stack.extend(node.children.values())
        found.append(node)
    return found[1:]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12), st.integers(1, 4))
def test_every_sequence_is_read_back_and_nothing_is_kept_twice(sequences: list[list[int]], max_run: int) -> None:
    tree = PrefixTree(1000, max_run=max_run)
    for sequence in sequences:
        fill(tree.insert(sequence))
    for sequence in sequences:
        path = tree.insert(sequence)
        assert path == path[-1].path() and all(node.kv is not None for node in path)
        assert read(path, len(sequence)) == sequence
    distinct = {tuple(s[: i + 1]) for s in sequences for i in range(len(s))}
    assert tree.num_tokens == len(distinct) == sum(len(node.tokens) for node in all_nodes(tree))
    assert all(len(node.tokens) <= max_run for node in all_nodes(tree))
    assert all(node.kv is not None and node.kv.shape[3] == len(node.tokens) for node in all_nodes(tree))


def test_a_fork_splits_a_run_and_the_halves_own_their_memory() -> None:
    tree = PrefixTree(100, max_run=50)
    fill(tree.insert([1, 2, 3, 4]))
    path = tree.insert([1, 2, 9])
    assert [node.tokens for node in path] == [(1, 2), (9,)]
    assert [node.kv is None for node in path] == [False, True]
    for node in all_nodes(tree):
        assert node.kv is None or node.kv.untyped_storage().nbytes() == node.kv.nbytes


def test_a_path_is_cut_at_the_length_asked_for() -> None:
    tree = PrefixTree(100, max_run=2)
    fill(tree.insert([1, 2, 3, 4, 5]))
    assert read(tree.insert([1, 2, 3, 4, 5]), 3) == [1, 2, 3]


def test_what_was_used_longest_ago_is_forgotten_first() -> None:
    tree = PrefixTree(8, max_run=50)
    for sequence in ([1, 2, 3], [1, 2, 4], [5, 6, 7]):
        fill(tree.insert(sequence))
    tree.trim()
    assert tree.num_tokens == 7
    tree.insert([1, 2, 3])  # used again
    fill(tree.insert([8, 9]))
    tree.trim()  # 9 tokens of at most 8: room is made down to 7
    assert sorted(node.tokens for node in all_nodes(tree)) == [(1, 2), (3,), (5, 6, 7), (8, 9)] or tree.num_tokens <= 7
    assert (4,) not in [node.tokens for node in all_nodes(tree)]


def test_a_budget_of_nothing_keeps_nothing_and_clear_forgets_all() -> None:
    tree = PrefixTree(0, max_run=50)
    fill(tree.insert([1, 2, 3]))
    fill(tree.insert([1, 2, 4]))
    tree.trim()
    assert tree.num_tokens == 0 and all_nodes(tree) == []
    tree = PrefixTree(10, max_run=50)
    fill(tree.insert([1, 2, 3]))
    tree.clear()
    assert tree.num_tokens == 0 and [n.kv for n in tree.insert([1, 2])] == [None]


def test_the_layout_counts_bytes() -> None:
    layout = Layout(num_layers=3, num_kv_heads=2, head_size=8, dtype=torch.bfloat16, device=torch.device("cpu"))
    assert layout.token_bytes == 2 * 3 * 2 * 8 * 2
    assert layout.allocate(5, 7).shape == (3, 2, 5, 2, 7, 8) and layout.zeros(5, 7).nbytes == 35 * layout.token_bytes


def test_what_is_forgotten_is_free_at_once() -> None:
    gc.disable()
    try:
        tree = PrefixTree(100, max_run=8)
        node = tree.insert([1, 2, 3])[-1]
        node.kv = torch.zeros(1)
        held = weakref.ref(node.kv)
        del node
        tree.clear()
        assert held() is None
    finally:
        gc.enable()
