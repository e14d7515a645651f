"""The models of the benchmarks: Qwen3 shapes with random weights and a tokenizer of one token per byte."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["NANO", "SHAPES", "SMALL", "Shape", "write_model"]

# Contents only: a prompt is then the very text of its message, for us and for the peers.
_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
_CONTROL = ("<|pad|>", "<|end|>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A decoder's size. ``vocabulary`` is the 256 bytes and the control tokens."""

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int = 256 + len(_CONTROL)
    context: int = 8192

    @property
    def linear(self) -> int:
        """Parameters that every token is multiplied with: all but the embedding."""
        attention = self.hidden * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)


NANO = Shape(name="nano", hidden=128, intermediate=384, layers=4, heads=4, kv_heads=2, head_size=32)
"""The shape of the built-in policy: 0.8 million parameters."""
SMALL = Shape(name="25m", hidden=512, intermediate=1536, layers=8, heads=8, kv_heads=4, head_size=64)
"""25 million parameters."""
SHAPES = {shape.name: shape for shape in (NANO, SMALL)}


def write_model(shape: Shape, folder: Path) -> Path:
    """Write weights, configuration and tokenizer in the Hugging Face layout; the same at every call."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen3Config
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=_CONTROL[0], eos_token=_CONTROL[1], padding_side="left"
    )
    fast.chat_template = _TEMPLATE
    config = Qwen3Config(
        vocab_size=len(fast),
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_size,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
