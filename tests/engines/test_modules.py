"""The decoder that calls the model itself."""

from __future__ import annotations

from collections.abc import Callable

import torch

from askesis.engines.modules import ModuleDecoder
from askesis.policy.loading import Policy


def test_the_layout_is_found_by_looking(random_policy: Callable[..., Policy]) -> None:
    layout = ModuleDecoder(random_policy("GPTNeoX", tie_word_embeddings=False).model).layout
    assert (layout.num_layers, layout.num_kv_heads, layout.head_size) == (2, 4, 8)


@torch.no_grad()
def test_runs_are_read_after_their_contexts(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Gemma3Text", head_dim=8)
    decoder = ModuleDecoder(policy.model)
    whole = decoder.layout.zeros(1, 4)
    decoder.read(torch.tensor([[5, 6, 7, 8]]), torch.tensor([0]), whole, torch.tensor([3]), torch.tensor([0]))
    kv = decoder.layout.zeros(2, 4)
    kv[:, :, 0, :, :2], kv[:, :, 1, :, :1] = whole[:, :, 0, :, :2], whole[:, :, 0, :, :1]
    ends, own = torch.tensor([1, 1]), torch.tensor([0, 0])
    found = decoder.read(torch.tensor([[7, 8], [6, 7]]), torch.tensor([2, 1]), kv, ends, own)
    expected = [policy.model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in ([5, 6, 7, 8], [5, 6, 7])]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_changes_in_place_are_noticed(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("GPTNeoX", tie_word_embeddings=False)
    decoder = ModuleDecoder(policy.model)
    with torch.no_grad():
        next(policy.model.parameters()).add_(1)
    assert decoder.changed()
    decoder.refresh()
    assert not decoder.changed()
