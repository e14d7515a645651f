"""Reading prefixes: what passes through the model, in which pieces, and that it is right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askesis.engines.decoder import Decoder, FusedDecoder
from askesis.engines.kv import PrefixTree
from askesis.engines.modules import ModuleDecoder
from askesis.engines.prefill import read_prefixes
from askesis.policy.loading import Policy


class Counting:
    """A decoder that notes the shape of every pass."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self.layout, self.ragged = decoder.layout, decoder.ragged
        self.passes: list[tuple[int, int]] = []
        self.contexts: list[list[int]] = []

    def read(self, ids: torch.Tensor, context: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        self.passes.append((ids.shape[0], ids.shape[1]))
        self.contexts.append(context.tolist())
        return self._decoder.read(ids, context, *rest)


@pytest.fixture(scope="module")
def policy(random_policy: Callable[..., Policy]) -> Policy:
    return random_policy("Qwen3")


def counting(policy: Policy, kind: type = FusedDecoder) -> Counting:
    decoder = kind(policy.model)
    decoder.reserve(64)
    return Counting(decoder)


@torch.no_grad()
def check(
    policy: Policy, decoder: Counting, tree: PrefixTree, prefixes: list[tuple[int, ...]], budget: int = 64
) -> None:
    read = read_prefixes(decoder, tree, [(0, p) for p in prefixes], max_tokens=budget)  # type: ignore[arg-type]
    for prefix in prefixes:
        expected = policy.model(input_ids=torch.tensor([prefix])).logits[0, -1]
        torch.testing.assert_close(read.logits_PV[read.place[0, prefix]], expected, atol=2e-4, rtol=1e-3)
        assert [t for node in read.paths[0, prefix] for t in node.tokens] == list(prefix)


def test_a_common_head_passes_once(policy: Policy) -> None:
    decoder, tree = counting(policy), PrefixTree(1000, max_run=64)
    check(policy, decoder, tree, [(5, 6, 7, 8), (5, 6, 9), (4,)])
    assert decoder.passes == [(2, 2), (2, 2)]  # (4) and (5 6), then their continuations
    decoder.passes.clear()
    check(policy, decoder, tree, [(5, 6, 7, 8, 3, 2), (5, 6)])
    assert decoder.passes == [(2, 2)] and decoder.contexts[-1] == [1, 4]  # a kept prefix: only its last token again


def test_long_prompts_are_read_in_pieces(policy: Policy) -> None:
    decoder, tree = counting(policy), PrefixTree(1000, max_run=8)
    prompts = [tuple(range(3, 23)), tuple(range(40, 45)), tuple(range(50, 55))]
    check(policy, decoder, tree, prompts, budget=8)
    assert all(runs * length <= 8 for runs, length in decoder.passes)
    assert sum(runs * length for runs, length in decoder.passes) == 30


def test_wide_contexts_bound_a_pass_too(policy: Policy) -> None:
    decoder, tree = counting(policy), PrefixTree(1000, max_run=4)
    heads = [(i, *range(10, 40)) for i in range(1, 4)]
    check(policy, decoder, tree, heads, budget=4)
    assert all(
        runs * (length + max(c)) <= 32 or runs == 1
        for (runs, length), c in zip(decoder.passes, decoder.contexts, strict=True)
    )


@pytest.mark.parametrize("kind", [FusedDecoder, ModuleDecoder])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    waves=st.lists(
        st.lists(st.lists(st.integers(2, 4), min_size=1, max_size=10).map(tuple), min_size=1, max_size=4, unique=True),
        min_size=1,
        max_size=3,
    ),
    budget=st.integers(1, 9),
)
def test_any_trees_of_prefixes(policy: Policy, kind: type, waves: list[list[tuple[int, ...]]], budget: int) -> None:
    decoder, tree = counting(policy, kind), PrefixTree(12, max_run=budget)
    for wave in waves:
        check(policy, decoder, tree, wave, budget)
        tree.trim()
    if kind is ModuleDecoder:
        assert decoder.passes
