"""Reading a model's weights: what is taken, what is refused, and when they have changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from askesis.policy.loading import Policy
from askesis.policy.weights import Projection, Unsupported, Weights, fingerprint


def test_projections_are_joined_with_the_norm_folded_in(random_policy: Callable[..., Policy]) -> None:
    model = random_policy("Qwen2").model
    layer, taken = model.model.layers[0], Weights.of(model).layers[0]
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    scaled = x * layer.input_layernorm.weight
    expected = torch.cat([p(scaled) for p in (layer.self_attn.k_proj, layer.self_attn.v_proj)], -1)
    assert taken.norm_in is None and taken.qkv.bias is not None
    found = taken.qkv(x)[:, 32:]
    torch.testing.assert_close(found[:, 16:], expected[:, 16:])  # values as they are
    pairs = found[:, :16].view(3, 2, 4, 2).transpose(2, 3).reshape(3, 16)  # keys pair by pair
    torch.testing.assert_close(pairs, expected[:, :16])


def test_low_precision_keeps_norms_apart(random_policy: Callable[..., Policy]) -> None:
    taken = Weights.of(random_policy("Gemma", torch.bfloat16, head_dim=8).model)
    model = random_policy("Gemma", torch.bfloat16, head_dim=8).model
    norm = taken.layers[1].norm_in
    assert norm is not None and norm.equal(model.model.layers[1].input_layernorm.weight + 1)
    assert taken.embedding_scale == pytest.approx(32**0.5)


def test_a_projection_adds() -> None:
    projection = Projection(torch.tensor([[1.0, 2.0]]), torch.tensor([10.0, 20.0]))
    assert projection(torch.tensor([[3.0]])).tolist() == [[13.0, 26.0]]
    assert projection.add(torch.ones(1, 2), torch.tensor([[3.0]])).tolist() == [[14.0, 27.0]]


def test_other_architectures_and_moving_rotations_are_refused(random_policy: Callable[..., Policy]) -> None:
    with pytest.raises(Unsupported, match="GPTNeoXForCausalLM is not one of"):
        Weights.of(random_policy("GPTNeoX", tie_word_embeddings=False).model)
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(Unsupported, match="'dynamic' depend on the length"):
        Weights.of(random_policy("Llama", rope_parameters=rope).model)
    model = random_policy("Llama").model
    model.model.layers[1].mlp.up_proj = torch.nn.Sequential(model.model.layers[1].mlp.up_proj)
    with pytest.raises(Unsupported, match="a projection is a Sequential"):
        Weights.of(model)


def test_the_fingerprint_sees_changes_in_place(random_policy: Callable[..., Policy]) -> None:
    model = random_policy("Llama").model
    before = fingerprint(model)
    assert before == fingerprint(model)
    with torch.no_grad():
        model.model.norm.weight.mul_(2)
    after = fingerprint(model)
    assert after != before
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model.lm_head.weight.sum().backward()
    optimizer.step()
    assert fingerprint(model) != after


@pytest.mark.parametrize(
    ("name", "dtype"), [("Llama", torch.float32), ("Qwen3", torch.float32), ("Gemma", torch.bfloat16)]
)
@torch.no_grad()
def test_renewed_weights_are_those_that_would_be_read_anew(
    random_policy: Callable[..., Policy], name: str, dtype: torch.dtype
) -> None:
    model = random_policy(name, dtype, head_dim=8).model
    known = Weights.of(model)
    places = [tensor.data_ptr() for layer in known.layers for tensor in layer.tensors()]
    for parameter in model.parameters():
        parameter.mul_(1.5).add_(0.25)
    known.renew(model)
    fresh = Weights.of(model)
    for old, new in zip(known.layers, fresh.layers, strict=True):
        assert all(a.equal(b) for a, b in zip(old.tensors(), new.tensors(), strict=True))
    assert known.norm_out.equal(fresh.norm_out) and known.embedding.equal(fresh.embedding)
    assert known.head.matrix.equal(fresh.head.matrix)
    assert [tensor.data_ptr() for layer in known.layers for tensor in layer.tensors()] == places
