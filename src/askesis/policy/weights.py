"""Weights of the rotary decoder family, laid out for sampling: joint projections, rotary pairs side by side.

The learner changes its tensors in place, so the copies are made anew when those have changed. Matrices are stored
[in, out]: a product with one or a few rows then reads them as they lie, which is twice as fast on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch

__all__ = ["FAMILY", "Layer", "Projection", "Unsupported", "Weights", "fingerprint"]

FAMILY = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GemmaForCausalLM")
"""Architectures that are laid out here."""
_STATIC_ROPE = ("default", "linear", "llama3", "yarn")


class Unsupported(Exception):
    """This model is not of the family. Internal: another way to compute its logits is taken, and the reason shown."""


class Projection(NamedTuple):
    """A linear map: matrix [in, out], bias [out] or None."""

    matrix: torch.Tensor
    bias: torch.Tensor | None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Of rows [.., in]."""
        return x @ self.matrix if self.bias is None else torch.addmm(self.bias, x, self.matrix)

    def add(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """``x`` plus the map of ``y``."""
        return torch.addmm(x if self.bias is None else x + self.bias, y, self.matrix)


@dataclass(slots=True, kw_only=True)
class Layer:
    """One decoder layer. A norm of None has been folded into the projection that follows it."""

    norm_in: torch.Tensor | None
    norm_mlp: torch.Tensor | None
    qkv: Projection
    out: Projection
    gate_up: Projection
    down: Projection
    norm_qk: torch.Tensor | None
    """Query and key norm weights with the scale of attention [query and key heads, size], float32."""

    def tensors(self) -> list[torch.Tensor]:
        """All that it holds, in order."""
        parts = (self.norm_in, self.norm_mlp, *self.qkv, *self.out, *self.gate_up, *self.down, self.norm_qk)
        return [part for part in parts if part is not None]

    def room(self, count: int) -> Layer:
        """Uninitialised memory for ``count`` layers like this one, in a first dimension of each tensor."""

        def tensor(x: torch.Tensor | None) -> torch.Tensor | None:
            return None if x is None else x.new_empty(count, *x.shape)

        def projection(p: Projection) -> Projection:
            return Projection(p.matrix.new_empty(count, *p.matrix.shape), tensor(p.bias))

        return Layer(
            norm_in=tensor(self.norm_in),
            norm_mlp=tensor(self.norm_mlp),
            qkv=projection(self.qkv),
            out=projection(self.out),
            gate_up=projection(self.gate_up),
            down=projection(self.down),
            norm_qk=tensor(self.norm_qk),
        )


@dataclass(slots=True, kw_only=True)
class Weights:
    """Shapes and tensors of a model of the family."""

    num_heads: int
    num_kv_heads: int
    head_size: int
    eps: float
    embedding: torch.Tensor
    embedding_scale: float
    head: Projection
    norm_out: torch.Tensor
    activation: Any
    rotary: Any
    layers: list[Layer]

    @classmethod
    def of(cls, model: Any) -> Self:
        """Read ``model``, adapters merged in. With gradient enabled, the joint weights pass it on to the parameters.

        Raises:
            Unsupported: it is not of the family; the message says in what.
        """
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        if type(base).__name__ not in FAMILY:
            raise Unsupported(f"{type(base).__name__} is not one of {', '.join(FAMILY)}")
        config, inner = base.config, base.model
        rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        if rope not in _STATIC_ROPE:
            raise Unsupported(f"rotary positions of type {rope!r} depend on the length")
        if base is not model and base.dtype != torch.float32:
            raise Unsupported("adapters merged into weights of low precision would be rounded away")
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shift = 1.0 if type(base).__name__ == "GemmaForCausalLM" else 0.0
        shape = _Shape(config.num_attention_heads, config.num_key_value_heads, size, shift)
        head_weight, head_bias = _linear(base.get_output_embeddings())
        return cls(
            num_heads=shape.num_heads,
            num_kv_heads=shape.num_kv_heads,
            head_size=size,
            eps=config.rms_norm_eps,
            embedding=base.get_input_embeddings().weight,
            embedding_scale=config.hidden_size**0.5 if shift else 1.0,
            head=Projection(head_weight.t(), head_bias),  # often tied to the embedding and large: not copied
            norm_out=inner.norm.weight + shift,
            activation=inner.layers[0].mlp.act_fn,
            rotary=inner.rotary_emb,
            layers=[_layer(layer, shape) for layer in inner.layers],
        )

    def renew(self, model: Any) -> None:
        """Read ``model``, which has changed in place, into the tensors that are there, one layer at a time."""
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner = base.model
        shift = 1.0 if type(base).__name__ == "GemmaForCausalLM" else 0.0
        shape = _Shape(self.num_heads, self.num_kv_heads, self.head_size, shift)
        head_weight, head_bias = _linear(base.get_output_embeddings())
        self.embedding, self.head = base.get_input_embeddings().weight, Projection(head_weight.t(), head_bias)
        self.norm_out.copy_(inner.norm.weight + shift)
        for known, layer in zip(self.layers, inner.layers, strict=True):
            for old, new in zip(known.tensors(), _layer(layer, shape).tensors(), strict=True):
                old.copy_(new)


class _Shape(NamedTuple):
    num_heads: int
    num_kv_heads: int
    head_size: int
    norm_shift: float
    """What the architecture adds to its norm weights."""


_Linear = tuple[torch.Tensor, torch.Tensor | None]


def fingerprint(model: torch.nn.Module) -> tuple[tuple[int, int], ...]:
    """Changes when a parameter is replaced or written in place, but not by every fused optimiser: publish changes."""
    return tuple((p.data_ptr(), p._version) for p in model.parameters())


def _layer(layer: Any, shape: _Shape) -> Layer:
    attention, mlp, size = layer.self_attn, layer.mlp, shape.head_size
    (wq, bq), (wk, bk), v = (_linear(p) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    scale, norm_qk = attention.scaling, None
    if hasattr(attention, "q_norm"):
        rows = [attention.q_norm.weight * scale] * shape.num_heads + [attention.k_norm.weight] * shape.num_kv_heads
        norm_qk = _paired(torch.cat(rows).float(), size).view(-1, size)
        scale = 1.0
    q = (_paired(wq, size) * scale, None if bq is None else _paired(bq, size) * scale)
    k = (_paired(wk, size), None if bk is None else _paired(bk, size))
    norm_in, qkv = _after_norm(layer.input_layernorm.weight + shape.norm_shift, q, k, v)
    norm_mlp, gate_up = _after_norm(
        layer.post_attention_layernorm.weight + shape.norm_shift, _linear(mlp.gate_proj), _linear(mlp.up_proj)
    )
    return Layer(
        norm_in=norm_in,
        norm_mlp=norm_mlp,
        qkv=qkv,
        out=_projection(_linear(attention.o_proj)),
        gate_up=gate_up,
        down=_projection(_linear(mlp.down_proj)),
        norm_qk=norm_qk,
    )


def _linear(module: Any) -> _Linear:
    """Weight [out, in] and bias of a linear layer, low-rank adapters added in."""
    if type(module) is torch.nn.Linear:
        return module.weight, module.bias
    adapters = getattr(module, "active_adapters", None)
    if adapters is None or type(module.base_layer) is not torch.nn.Linear or any(module.use_dora.values()):
        raise Unsupported(f"a projection is a {type(module).__name__}")
    weight = module.base_layer.weight
    if not module.merged:
        weight = weight + sum(module.get_delta_weight(name) for name in adapters)
    return weight, module.base_layer.bias


def _after_norm(norm: torch.Tensor, *parts: _Linear) -> tuple[torch.Tensor | None, Projection]:
    """Join layers that read one norm's output. In full precision the norm's weight is folded in."""
    if norm.dtype != torch.float32:
        return norm, _projection(*parts)
    return None, _projection(*((weight * norm, bias) for weight, bias in parts))


def _projection(*parts: _Linear) -> Projection:
    """Layers side by side, copied."""
    matrix = torch.cat([weight for weight, _ in parts]).t().contiguous()
    if all(bias is None for _, bias in parts):
        return Projection(matrix, None)
    return Projection(matrix, torch.cat([torch.zeros_like(w[:, 0]) if b is None else b for w, b in parts]))


def _paired(rows: torch.Tensor, size: int) -> torch.Tensor:
    """Bring the two halves of each head, which rotate together, side by side: a rotation is then one complex product.

    Scores are sums over the head, so queries and keys may be reordered alike.
    """
    paired: torch.Tensor = rows.unflatten(0, (-1, 2, size // 2)).transpose(1, 2).flatten(0, 2)
    return paired
