"""The family written out gives what the modules of transformers give, gradients included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from askesis.learners.fused import FusedDecoder
from askesis.policy.forest import Forest, pack
from askesis.policy.tree_attention import TreeMask, tree_attention
from askesis.policy.weights import Unsupported

CPU = torch.device("cpu")
SHAPE = {"vocab_size": 19, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "qwen2": lambda: Qwen2Config(**{**SHAPE, "hidden_size": 32}, **HEADS),
    "qwen3": lambda: Qwen3Config(**SHAPE, **HEADS, tie_word_embeddings=True),
    "qwen3, two layers of bias": lambda: Qwen3Config(**SHAPE, **HEADS, attention_bias=True),
    "llama": lambda: LlamaConfig(**SHAPE, **HEADS, mlp_bias=True),
    "llama 3, scaled positions": lambda: LlamaConfig(
        **SHAPE,
        **HEADS,
        rope_parameters={
            "rope_type": "llama3",
            "rope_theta": 1e4,
            "factor": 4.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
    ),
    "mistral": lambda: MistralConfig(**SHAPE, **HEADS, sliding_window=None),
    "gemma": lambda: GemmaConfig(**SHAPE, **HEADS),
}


def build(config: PretrainedConfig) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
        for parameter in model.parameters():  # so that norms and biases matter too
            torch.nn.init.normal_(parameter, mean=0.1, std=0.2)
    return model  # type: ignore[no-any-return]


def forest() -> Forest:
    rng = np.random.default_rng(3)
    trunk = rng.integers(0, 19, 11)
    cuts = ((11, 5), (11, 9), (4, 6), (0, 3))
    return pack([np.concatenate([trunk[:cut], rng.integers(0, 19, size)]).astype(np.uint32) for cut, size in cuts])


@pytest.mark.parametrize("name", CONFIGS)
def test_hidden_states_and_gradients_are_those_of_the_modules(name: str) -> None:
    model, tokens = build(CONFIGS[name]()), forest()
    ids, position = torch.from_numpy(tokens.ids_N), torch.from_numpy(tokens.position_N)
    wanted = torch.tensor([0, 3, 10, 11, len(ids) - 2])
    mask = TreeMask.of(tokens, CPU)
    ours = FusedDecoder(model)(ids, position, mask, wanted)
    decoder = model.get_decoder()  # type: ignore[operator]
    with tree_attention(decoder):
        theirs = decoder(
            input_ids=ids[None],
            position_ids=position[None],
            attention_mask=torch.empty(1, 1, 1, 1),
            use_cache=False,
            tree=mask,
        ).last_hidden_state[0, wanted]
    assert torch.allclose(ours, theirs, atol=1e-5)
    parameters = [p for n, p in model.named_parameters() if not n.startswith("lm_head")]
    upstream = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    grads = [torch.autograd.grad(out, parameters, upstream) for out in (ours, theirs)]
    largest = max(float(g.abs().max()) for g in grads[1])
    assert max(float((a - b).abs().max()) for a, b in zip(*grads, strict=True)) < 1e-5 * largest


def test_it_follows_weights_that_change_in_place() -> None:
    model, tokens = build(CONFIGS["qwen3"]()), forest()
    fused, mask = FusedDecoder(model), TreeMask.of(tokens, CPU)
    ids, position = torch.from_numpy(tokens.ids_N), torch.from_numpy(tokens.position_N)
    before = fused(ids, position, mask, torch.tensor([5]))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    assert not torch.allclose(fused(ids, position, mask, torch.tensor([5])), before, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda: build(PhiConfig(**{**SHAPE, "num_attention_heads": 2})), "PhiForCausalLM"),
        (lambda: build(CONFIGS["qwen3"]()).bfloat16(), "float32 on a CPU"),
    ],
)
def test_what_it_does_not_do_is_left_to_the_modules(change: Callable[[], torch.nn.Module], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        FusedDecoder(change())
