"""The fused decoder: one read, one step, against the model."""

from __future__ import annotations

from collections.abc import Callable

import torch

from askesis.engines.cache import RowCache
from askesis.engines.decoder import FusedDecoder, prefix_mask
from askesis.engines.kv import PrefixTree
from askesis.engines.prefill import read_prefixes
from askesis.policy.loading import Policy


def logits(policy: Policy, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return policy.model(input_ids=torch.tensor([ids])).logits[0]


def test_the_mask_shows_context_and_the_past() -> None:
    mask = prefix_mask(torch.tensor([0, 2]), 2, 3)
    assert mask.shape == (2, 1, 3, 5)
    assert mask[0, 0].int().tolist() == [[0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert mask[1, 0].int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


@torch.no_grad()
def test_reading_runs_of_different_lengths_then_stepping(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Qwen3")
    decoder = FusedDecoder(policy.model)
    decoder.reserve(16)
    kv = decoder.layout.zeros(2, 4)
    own = torch.tensor([0, 0])
    first = decoder.read(torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), own, kv, torch.tensor([3, 1]), own)
    expected = torch.stack([logits(policy, [5, 6, 7, 8])[-1], logits(policy, [9, 10])[-1]])
    torch.testing.assert_close(first, expected, atol=1e-4, rtol=1e-4)

    tree = PrefixTree(100, max_run=8)
    long, short = (0, (5, 6, 7, 8)), (0, (9, 10))
    read = read_prefixes(decoder, tree, [long, short], max_tokens=8)
    rows = RowCache(decoder.layout)
    rows.admit([([], read.paths[long]), ([], read.paths[short])], room=1)
    rows.advance()
    second = decoder.step(torch.tensor([11, 12]), torch.tensor([4, 2]), rows, own)
    expected = torch.stack([logits(policy, [5, 6, 7, 8, 11])[-1], logits(policy, [9, 10, 12])[-1]])
    torch.testing.assert_close(second, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_run_continues_its_context(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Llama")
    decoder = FusedDecoder(policy.model)
    decoder.reserve(300)
    whole = decoder.layout.zeros(1, 5)
    decoder.read(torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([0]), whole, torch.tensor([4]), torch.tensor([0]))
    kv = decoder.layout.zeros(2, 5)
    kv[:, :, 0, :, :3], kv[:, :, 1, :, :1] = whole[:, :, 0, :, :3], whole[:, :, 0, :, :1]
    ends, own = torch.tensor([1, 1]), torch.tensor([0, 0])
    last = decoder.read(torch.tensor([[8, 9], [6, 7]]), torch.tensor([3, 1]), kv, ends, own)
    expected = torch.stack([logits(policy, [5, 6, 7, 8, 9])[-1], logits(policy, [5, 6, 7])[-1]])
    torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(kv[:, :, 0, :, 3:], whole[:, :, 0, :, 3:], atol=1e-4, rtol=1e-4)


def test_weights_that_change_in_place_are_noticed_and_taken_over(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Gemma", head_dim=8)
    decoder = FusedDecoder(policy.model)
    decoder.reserve(4)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(0.5)
    assert decoder.changed()
    decoder.refresh()
    assert not decoder.changed()
    with torch.inference_mode():
        own, kv = torch.tensor([0]), decoder.layout.zeros(1, 2)
        found = decoder.read(torch.tensor([[3, 4]]), own, kv, torch.tensor([1]), own)
    torch.testing.assert_close(found[0], logits(policy, [3, 4])[-1], atol=1e-4, rtol=1e-4)
