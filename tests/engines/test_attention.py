"""Attention in blocks against attention in one piece."""

from __future__ import annotations

import pytest
import torch

from askesis.engines.attention import attend_block, attend_long, merge

SHAPES = [(1, 1, 1, 1, 1, 2), (3, 2, 2, 5, 4, 8), (2, 2, 6, 3, 70, 16)]


def tensors(batch: int, heads: int, queries: int, own: int, long: int, size: int) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    q = normal(batch, heads, queries, size) * 3
    return q, *(normal(batch, heads, n, size) for n in (own, own, long, long))


def whole(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return ((q @ k.transpose(-1, -2)) + bias[:, :, None]).softmax(-1) @ v


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padded", [False, True])
def test_two_blocks_are_one_softmax(shape: tuple[int, ...], padded: bool) -> None:
    q, k_own, v_own, k_long, v_long = tensors(*shape)
    bias_own, bias_long = torch.zeros(shape[0], 1, shape[3]), torch.zeros(shape[0], shape[4])
    if padded:
        bias_own[0, :, : shape[3] - 1] = -torch.inf
        bias_long[-1, 1:] = -torch.inf
    expected = whole(
        q,
        torch.cat([k_own, k_long], 2),
        torch.cat([v_own, v_long], 2),
        torch.cat([bias_own[:, 0], bias_long], 1)[:, None],
    )
    first = attend_block(q, k_own, v_own, bias_own)
    for second in (attend_long(q, k_long, v_long, bias_long), attend_block(q, k_long, v_long, bias_long[:, None])):
        torch.testing.assert_close(merge(first, second), expected, atol=2e-6, rtol=1e-5)


def test_a_block_without_weight_changes_nothing() -> None:
    q, k, v, other, values = tensors(2, 2, 3, 4, 5, 8)
    alone = attend_block(q, k, v, None)
    outside = attend_block(q, other, values, None)
    outside = outside._replace(peak=outside.peak - torch.inf)
    torch.testing.assert_close(merge(alone, outside), whole(q, k, v, torch.zeros(2, 1, 4)), atol=2e-6, rtol=1e-5)


def test_huge_scores_do_not_overflow() -> None:
    q = torch.full((1, 1, 1, 2), 1e4)
    k = torch.tensor([[[[1.0, 1.0], [-1.0, -1.0]]]])
    v = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    out = merge(attend_block(q, k, v, None), attend_block(q, -k, v, None))
    assert out[0, 0, 0].tolist() == [2.0, 3.0]  # the first key of one block, the second of the other, equally
