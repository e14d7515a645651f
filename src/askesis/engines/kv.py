"""What was read or sampled once is kept: a radix tree over token ids whose nodes own keys and values.

Shape suffixes: L layers, H key-value heads, N tokens, D head size; the axis of size 2 holds keys and values.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

__all__ = ["Layout", "Node", "PrefixTree", "copy_path"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What keys and values look like."""

    num_layers: int
    num_kv_heads: int
    head_size: int
    dtype: torch.dtype
    device: torch.device

    def allocate(self, num_rows: int, num_columns: int) -> torch.Tensor:
        """Memory for keys and values [L, 2, rows, H, columns, D], as it comes."""
        shape = (self.num_layers, 2, num_rows, self.num_kv_heads, num_columns, self.head_size)
        return torch.empty(shape, dtype=self.dtype, device=self.device)

    def zeros(self, num_rows: int, num_columns: int) -> torch.Tensor:
        """The same, zeroed: what is masked is still multiplied, so it must be a number."""
        return self.allocate(num_rows, num_columns).zero_()

    @property
    def token_bytes(self) -> int:
        """Of the keys and values of one token."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_size * self.dtype.itemsize


class Node:
    """A run of tokens after its parent's. ``kv`` [L, 2, H, N, D] is None until the run has been read."""

    __slots__ = ("children", "kv", "parent", "tokens", "used")

    def __init__(self, parent: Node | None, tokens: tuple[int, ...]) -> None:
        self.parent = parent
        self.tokens = tokens
        self.children: dict[int, Node] = {}
        self.kv: torch.Tensor | None = None
        self.used = 0

    def path(self) -> list[Node]:
        """The nodes from the root's child to this one."""
        nodes: list[Node] = []
        node = self
        while node.parent is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


class PrefixTree:
    """Keeps at most ``max_tokens`` tokens after :meth:`trim`; what was used longest ago goes first.

    Args:
        max_tokens: budget of :meth:`trim`.
        max_run: longest run that one node holds, so that a long prompt is read in pieces.
    """

    def __init__(self, max_tokens: int, *, max_run: int) -> None:
        self.max_tokens = max_tokens
        self.num_tokens = 0
        self._max_run = max_run
        self._roots: dict[int, Node] = {}
        self._now = 0

    def insert(self, tokens: Sequence[int], variant: int = 0) -> list[Node]:
        """The nodes whose runs concatenate to ``tokens``; new ones have no keys and values yet. What one variant of the
        weights has read is nothing to another.
        """
        self._now += 1
        sequence = tuple(tokens)
        node, start, path = self._roots.setdefault(variant, Node(None, ())), 0, []
        while start < len(sequence):
            child = node.children.get(sequence[start])
            if child is None:
                child = self._grow(node, sequence[start : start + self._max_run])
            else:
                shared = _common(child.tokens, sequence[start : start + len(child.tokens)])
                if shared < len(child.tokens):
                    child = self._split(child, shared)
            child.used = self._now
            path.append(child)
            node, start = child, start + len(child.tokens)
        return path

    def trim(self) -> None:
        """Forget leaves until the budget holds with some room, so that this is not done at every step."""
        if self.num_tokens <= self.max_tokens:
            return
        leaves = [(node.used, i, node) for i, node in enumerate(self._leaves())]
        heapq.heapify(leaves)
        tie = len(leaves)
        while leaves and self.num_tokens > self.max_tokens - self.max_tokens // 8:
            _, _, node = heapq.heappop(leaves)
            parent = node.parent
            self.remove(node)
            if parent is not None and parent.parent is not None and not parent.children:
                tie += 1
                heapq.heappush(leaves, (parent.used, tie, parent))

    def remove(self, node: Node) -> None:
        """Forget a node that has no children."""
        assert node.parent is not None and not node.children
        del node.parent.children[node.tokens[0]]
        self.num_tokens -= len(node.tokens)

    def clear(self) -> None:
        """Forget everything. Memory is free when this returns: parents and children hold each other, and would wait for
        the garbage collector.
        """
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            node.kv, node.children = None, {}
        self._roots, self.num_tokens = {}, 0

    def _grow(self, parent: Node, tokens: tuple[int, ...]) -> Node:
        node = Node(parent, tokens)
        parent.children[tokens[0]] = node
        self.num_tokens += len(tokens)
        return node

    def _split(self, node: Node, size: int) -> Node:
        """Cut ``node`` after ``size`` tokens; returns the first part. The halves own their tensors."""
        assert node.parent is not None
        head = Node(node.parent, node.tokens[:size])
        head.used = node.used
        node.parent.children[head.tokens[0]] = head
        node.parent, node.tokens = head, node.tokens[size:]
        head.children[node.tokens[0]] = node
        if node.kv is not None:
            head.kv, node.kv = node.kv[:, :, :, :size].clone(), node.kv[:, :, :, size:].clone()
        return head

    def _leaves(self) -> Iterator[Node]:
        stack = list(self._roots.values())
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            if not node.children and node.parent is not None:
                yield node


def copy_path(nodes: Iterable[Node], out: torch.Tensor) -> int:
    """Write the keys and values of ``nodes`` one after another to the head of ``out`` [L, 2, H, N, D]; their number."""
    end = 0
    for node in nodes:
        assert node.kv is not None
        size = min(len(node.tokens), out.shape[3] - end)
        out[:, :, :, end : end + size] = node.kv[:, :, :, :size]
        end += size
    return end


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Length of the common head."""
    if first == second:
        return len(first)
    return next(
        (i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
