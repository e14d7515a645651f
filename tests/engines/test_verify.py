"""Which decoder is taken for which model, and that it computes the model's own log-probabilities."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch

from askesis.engines.decoder import FusedDecoder
from askesis.engines.modules import ModuleDecoder
from askesis.engines.verify import disagreement, open_decoder
from askesis.errors import EngineError
from askesis.policy.loading import Policy

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}
FUSED: list[tuple[str, dict[str, Any]]] = [
    ("Llama", {"rope_parameters": LLAMA3, "attention_bias": True, "mlp_bias": True}),
    ("Llama", {"tie_word_embeddings": True, "num_key_value_heads": 1}),
    ("Mistral", {"sliding_window": None, "num_key_value_heads": 4}),
    ("Qwen2", {"rope_parameters": YARN}),
    ("Qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    ("Gemma", {"head_dim": 16, "hidden_act": "gelu_pytorch_tanh"}),
]
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("GPTNeoX", {"tie_word_embeddings": False}),
    ("Gemma3Text", {"head_dim": 8}),
    ("Phi3", {}),
    ("Llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}),
]


@pytest.mark.parametrize(("architecture", "changes"), FUSED)
def test_the_family_is_sampled_by_the_fused_decoder(
    random_policy: Callable[..., Policy], architecture: str, changes: dict[str, Any]
) -> None:
    policy = random_policy(architecture, **changes)
    decoder, kernel = open_decoder(policy)
    assert kernel == "fused" and isinstance(decoder, FusedDecoder)
    assert disagreement(policy, decoder) < 2e-5


@pytest.mark.parametrize(("architecture", "changes"), OTHERS)
def test_other_models_are_sampled_by_their_modules_and_that_is_said(
    random_policy: Callable[..., Policy],
    architecture: str,
    changes: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    policy = random_policy(architecture, **changes)
    with caplog.at_level(logging.WARNING):
        decoder, kernel = open_decoder(policy)
    assert kernel.startswith("transformers: ") and isinstance(decoder, ModuleDecoder)
    assert [r.message for r in caplog.records] == [
        f"{architecture} is sampled by the modules of transformers: {kernel[14:]}"
    ]
    assert disagreement(policy, decoder) < 2e-5


@pytest.mark.parametrize("architecture", ["Llama", "Qwen3", "Gemma"])
def test_low_precision_agrees_as_far_as_it_can(random_policy: Callable[..., Policy], architecture: str) -> None:
    policy = random_policy(architecture, torch.bfloat16, head_dim=16)
    for name, parameter in policy.model.named_parameters():
        if parameter.dim() > 1 and "embed" not in name:
            parameter.data.mul_(0.2)
    assert disagreement(policy, FusedDecoder(policy.model)) < 0.1
    assert disagreement(policy, ModuleDecoder(policy.model)) < 0.1


def test_adapters_are_merged_and_followed(random_policy: Callable[..., Policy]) -> None:
    from peft import LoraConfig, get_peft_model

    policy = random_policy("Qwen3")
    config = LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    policy.model = get_peft_model(policy.model, config)
    decoder, kernel = open_decoder(policy)
    assert kernel == "fused"
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    assert decoder.changed()
    assert disagreement(policy, decoder) < 2e-5
    assert not decoder.changed()
    policy.model.to(torch.bfloat16)
    assert (
        open_decoder_reason(policy)
        == "transformers: adapters merged into weights of low precision would be rounded away"
    )


def open_decoder_reason(policy: Policy) -> str:
    return open_decoder(policy)[1]


def test_a_decoder_that_computes_something_else_is_not_taken(
    random_policy: Callable[..., Policy], caplog: pytest.LogCaptureFixture
) -> None:
    policy = random_policy("Llama")
    inner: Any = policy.model.model.layers[0].mlp
    original = type(inner).forward
    inner.forward = lambda x: original(inner, x) * 1.5  # an architecture that only looks like its class
    with caplog.at_level(logging.WARNING):
        decoder, kernel = open_decoder(policy)
    assert kernel.startswith("transformers: the fused decoder differs by")
    assert disagreement(policy, decoder) < 2e-5


def test_a_model_that_ignores_its_cache_is_refused(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("GPTNeoX", tie_word_embeddings=False)
    model: Any = policy.model
    forward = model.forward

    def forgetful(**kwargs: Any) -> Any:
        if kwargs.get("past_key_values") is not None:
            kwargs["attention_mask"] = torch.ones_like(kwargs["attention_mask"])
        return forward(**kwargs)

    model.forward = forgetful
    with pytest.raises(EngineError, match="cannot be sampled"):
        open_decoder(policy)
