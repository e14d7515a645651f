"""How large a model is, known from its configuration alone: no weight is read, and for Qwen3 no file either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from askesis.errors import PolicyError
from askesis.policy.folder import resolve_name

__all__ = ["KNOWN", "ModelShape", "shape_of"]

_QWEN3 = {
    "0.6B": (1024, 3072, 28, 16, True),
    "1.7B": (2048, 6144, 28, 16, True),
    "4B": (2560, 9728, 36, 32, True),
    "8B": (4096, 12288, 36, 32, False),
    "14B": (5120, 17408, 40, 40, False),
    "32B": (5120, 25600, 64, 64, False),
}
"""Hidden size, inner size, layers, query heads, tied embeddings: the configurations on the Hub; Qwen3 technical report
(arXiv 2505.09388), table 1.
"""
KNOWN = tuple(f"Qwen/Qwen3-{size}" for size in _QWEN3)
"""Names whose shapes need no network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """Counts of a decoder. Numbers of parameters count shared tensors once."""

    name: str
    architecture: str
    num_parameters: int
    num_joint: int
    """Parameters of the projections within the layers, of which the engine keeps a copy in its own order."""
    lora_per_rank: int
    """Parameters of adapters of rank 1 on every linear layer but the output."""
    num_layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context_length: int

    @property
    def kv_values(self) -> int:
        """Numbers that the keys and values of one token are."""
        return 2 * self.num_layers * self.kv_heads * self.head_size


def shape_of(name: str) -> ModelShape:
    """Shape of ``nano``, of a folder in the Hugging Face layout, or of a name on the Hub.

    Raises:
        PolicyError: there is no configuration to be had, or it is not that of a causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    config = _config(name)
    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    except (ValueError, TypeError, AttributeError) as error:
        raise PolicyError("this is not a causal language model", where=name, got=str(error)) from error
    text = model.config.get_text_config()
    output = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not output]
    return ModelShape(
        name=name,
        architecture=type(model).__name__,
        num_parameters=sum(p.numel() for p in model.parameters()),
        num_joint=sum(m.weight.numel() for m in linear),
        lora_per_rank=sum(m.in_features + m.out_features for m in linear),
        num_layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        inner=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        heads=text.num_attention_heads,
        kv_heads=getattr(text, "num_key_value_heads", None) or text.num_attention_heads,
        head_size=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        context_length=int(getattr(text, "max_position_embeddings", 0) or 1 << 20),
    )


def _config(name: str) -> Any:
    from transformers import AutoConfig

    if name in KNOWN:
        hidden, inner, layers, heads, tied = _QWEN3[name.rpartition("-")[2]]
        return AutoConfig.for_model(
            "qwen3",
            hidden_size=hidden,
            intermediate_size=inner,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151_936,
            max_position_embeddings=40_960,
            tie_word_embeddings=tied,
        )
    source = resolve_name(name)
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise PolicyError(
            "the model's configuration cannot be had",
            where=name,
            got=str(error).splitlines()[0],
            expected=f"a folder with config.json, a name on the Hub (network or cache), nano, or {', '.join(KNOWN)}",
            next_step="check policy.name",
        ) from error
