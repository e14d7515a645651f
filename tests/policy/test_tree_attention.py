"""Tree attention is attention along each branch: values, gradients, real models."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM as Auto
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from askesis.errors import PolicyError
from askesis.policy.forest import Forest, pack
from askesis.policy.tree_attention import TreeMask, attend, tree_attention

CPU = torch.device("cpu")
SHAPE = {"vocab_size": 19, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "qwen2": lambda: Qwen2Config(**{**SHAPE, "hidden_size": 32}, **HEADS),
    "qwen3": lambda: Qwen3Config(**SHAPE, **HEADS),
    "llama": lambda: LlamaConfig(**SHAPE, **HEADS, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
    "gemma": lambda: GemmaConfig(**SHAPE, **HEADS),
    "gemma3, inside its window": lambda: Gemma3TextConfig(**SHAPE, **HEADS, sliding_window=64),
}


@st.composite
def forests(draw: st.DrawFn) -> Forest:
    """Sequences that fork from each other at random places, some of them long enough for padding to matter."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    known = [rng.integers(0, 19, rng.integers(1, 30))]
    for _ in range(draw(st.integers(0, 12))):
        trunk = known[rng.integers(len(known))]
        known.append(np.concatenate([trunk[: rng.integers(len(trunk) + 1)], rng.integers(0, 19, rng.integers(1, 30))]))
    return pack([k.astype(np.uint32) for k in known])


def heads(forest: Forest, count: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, len(forest.ids_N), 8, generator=generator, dtype=dtype).requires_grad_()


def by_branch(forest: Forest, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """The oracle: softmax attention written out, one branch at a time."""
    out = torch.zeros_like(q)
    group = q.shape[1] // k.shape[1]
    for row in forest.rows:
        key, value = (x[0][:, row].repeat_interleave(group, 0) for x in (k, v))
        scores = q[0][:, row] @ key.transpose(1, 2) * scale
        hidden = torch.ones(len(row), len(row), dtype=torch.bool).triu(1)
        branch = scores.masked_fill(hidden, -math.inf).softmax(-1) @ value
        out = out.index_copy(2, torch.from_numpy(row), branch[None])
    return out


@settings(max_examples=40)
@given(forests(), st.integers(0, 99))
def test_the_dense_mask_is_attention_along_each_branch(forest: Forest, seed: int) -> None:
    q, k, v = heads(forest, 4, seed), heads(forest, 2, seed + 1), heads(forest, 2, seed + 2)
    out = attend(q, k, v, TreeMask.of(forest, CPU, kernel="dense"), scale=0.3)
    assert torch.allclose(out, by_branch(forest, q, k, v, 0.3), atol=1e-10)


@settings(max_examples=60)
@given(forests(), st.integers(0, 99), st.sampled_from([(4, 2), (2, 2), (3, 1)]))
def test_blocks_give_the_values_and_gradients_of_the_dense_mask(
    forest: Forest, seed: int, counts: tuple[int, int]
) -> None:
    tensors = heads(forest, counts[0], seed), heads(forest, counts[1], seed + 1), heads(forest, counts[1], seed + 2)
    upstream = heads(forest, counts[0], seed + 3).detach()
    results = []
    for kernel in ("blocks", "dense"):
        out = attend(*tensors, TreeMask.of(forest, CPU, kernel=kernel))
        results.append([out, *torch.autograd.grad(out, tensors, upstream)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-10)


def test_flex_attention_gives_the_values_of_the_dense_mask(recwarn: pytest.WarningsRecorder) -> None:
    """On a CPU, FlexAttention runs uncompiled and forward only; on CUDA the same mask drives the compiled kernel."""
    forest = pack([np.array([1, 2, 3, *tail], np.uint32) for tail in ([4, 5], [4, 6, 7], [8])])
    q, k, v = (heads(forest, n, n, torch.float32).detach() for n in (4, 2, 2))
    out = attend(q, k, v, TreeMask.of(forest, CPU, kernel="flex"))
    assert torch.allclose(out, attend(q, k, v, TreeMask.of(forest, CPU, kernel="dense")), atol=1e-5)
    assert all("flex_attention called without torch.compile" in str(w.message) for w in recwarn)


def test_blocks_keep_half_precision_close() -> None:
    forest = pack([np.arange(n, dtype=np.uint32) for n in (9, 30)] + [np.array([0, 1, 9], np.uint32)])
    full = [heads(forest, n, n, torch.float32) for n in (4, 2, 3)]
    full[2] = heads(forest, 2, 3, torch.float32)
    half = [t.detach().bfloat16().requires_grad_() for t in full]
    mask = TreeMask.of(forest, CPU)
    out = attend(*half, mask)  # type: ignore[misc]
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert torch.allclose(out.float(), attend(*full, mask), atol=0.05)  # type: ignore[misc]
    assert all(t.grad is not None and t.grad.dtype == torch.bfloat16 for t in half)


def run(model: torch.nn.Module, forest: Forest) -> torch.Tensor:
    decoder = model.get_decoder()  # type: ignore[operator]
    with tree_attention(decoder):
        return decoder(  # type: ignore[no-any-return]
            input_ids=torch.from_numpy(forest.ids_N)[None],
            position_ids=torch.from_numpy(forest.position_N)[None],
            attention_mask=torch.empty(1, 1, 1, 1),
            use_cache=False,
            tree=TreeMask.of(forest, CPU),
        ).last_hidden_state[0]


def build(config: PretrainedConfig) -> torch.nn.Module:
    kind = "eager" if isinstance(config, Gemma2Config) else "sdpa"  # transformers offers it no other
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Auto.from_config(config, attn_implementation=kind).eval()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_over_a_forest_is_the_model_over_each_branch(name: str) -> None:
    model = build(CONFIGS[name]())
    parameters = [p for n, p in model.named_parameters() if not n.startswith("lm_head")]
    rng = np.random.default_rng(3)
    trunk = rng.integers(0, 19, 11)
    forest = pack(
        [np.concatenate([trunk[:cut], rng.integers(0, 19, size)]).astype(np.uint32) for cut, size in
         ((11, 5), (11, 9), (4, 6), (0, 3), (11, 5))]
    )  # fmt: skip
    packed = run(model, forest)
    oracle = torch.zeros_like(packed)
    for row in forest.rows:
        ids = torch.from_numpy(forest.ids_N[row])[None]
        alone = model.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state  # type: ignore[operator]
        oracle = oracle.index_copy(0, torch.from_numpy(row), alone[0])
    assert torch.allclose(packed, oracle, atol=1e-5)
    upstream = torch.randn(packed.shape, generator=torch.Generator().manual_seed(5))
    ours, theirs = (torch.autograd.grad(out, parameters, upstream) for out in (packed, oracle))
    largest = max(float(g.abs().max()) for g in theirs)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) < 1e-5 * largest


def test_the_models_own_attention_is_back_afterwards() -> None:
    model = build(CONFIGS["qwen3"]())
    before = model.config._attn_implementation
    run(model, pack([np.array([1, 2], np.uint32)]))
    assert model.config._attn_implementation == before == "sdpa"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (lambda: MistralConfig(**SHAPE, **HEADS, sliding_window=8), "sliding attention window"),
        (lambda: Gemma3TextConfig(**SHAPE, **HEADS, sliding_window=8), "branches of 9 tokens, window 8"),
        (lambda: Gemma2Config(**SHAPE, **HEADS), "softcap"),
    ],
)
def test_attention_that_it_does_not_do_is_refused(config: Callable[[], PretrainedConfig], words: str) -> None:
    with pytest.raises(PolicyError, match=words) as caught:
        run(build(config()), pack([np.arange(9, dtype=np.uint32)]))
    assert "learner.packed=false" in str(caught.value)
