"""Random models of several architectures, made on the spot."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from askesis.policy.loading import Policy

__all__ = ["random_policy"]

SIZE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}


def random_policy(architecture: str, dtype: torch.dtype = torch.float32, **changes: Any) -> Policy:
    """A policy without a tokenizer, its weights far from flat: ``random_policy("Qwen3", **configuration)``."""
    config = getattr(transformers, f"{architecture}Config")(**{**SIZE, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
        for name, parameter in model.named_parameters():
            scale = 0.3 if parameter.dim() > 1 else 0.1
            noise = torch.empty_like(parameter).normal_(std=scale)
            parameter.data = noise if parameter.dim() > 1 or name.endswith("bias") else parameter.data + noise
    model.to(dtype).eval()
    return Policy(name=architecture, model=model, tokenizer=None, template=None, device=torch.device("cpu"))  # type: ignore[arg-type]
