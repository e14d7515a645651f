"""The rotary decoder family written out for training on a CPU: the model's own arithmetic in fewer passes over memory.

At the sizes that a CPU trains, half of the time goes into norms, rotations and gates that wait for memory, and into
their backward passes. Here projections that read one input are one product, norm weights are folded into them, and each
elementwise stage is one function with a backward pass of its own. Gradients reach the model's parameters through the
joint weights, by autograd.

Shape suffixes: N packed tokens, E hidden size, R heads (queries, then keys, then values), D head size, P pairs (D / 2),
M inner size of the gated layer.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from askesis.policy.tree_attention import TreeMask, attend_joint
from askesis.policy.weights import Unsupported, Weights

__all__ = ["FusedDecoder"]


class FusedDecoder:
    """Hidden states of a model of the family over a packed forest.

    Raises:
        Unsupported: the model is not of the family, or this is not how to train it fastest.
    """

    def __init__(self, model: Any) -> None:
        if model.device.type != "cpu" or model.dtype != torch.float32:
            raise Unsupported("it is for float32 on a CPU; elsewhere the modules of transformers are as fast")
        if hasattr(model, "get_base_model"):
            raise Unsupported("adapters are trained through the modules that hold them")
        with torch.no_grad():
            Weights.of(model)
        self._model = model

    def __call__(self, ids_N: Tensor, position_N: Tensor, mask: TreeMask, wanted_U: Tensor) -> Tensor:
        """[U, E] output of the decoder, last norm included, at the tokens ``wanted_U``.

        Args:
            ids_N: token ids.
            position_N: depth of each token in its branch.
            mask: of the forest, for the kernel ``blocks``.
            wanted_U: packed indices.
        """
        weights = Weights.of(self._model)
        # The row of the padding token, where a model names one, gets no gradient: as in the module.
        x_NE = F.embedding(ids_N, weights.embedding, self._model.get_input_embeddings().padding_idx)
        if weights.embedding_scale != 1.0:
            x_NE = x_NE * weights.embedding_scale
        cis_N1P = _rotations(weights, position_N)
        eps, last = weights.eps, len(weights.layers) - 1
        num_rotated = weights.num_heads + weights.num_kv_heads
        for number, layer in enumerate(weights.layers):
            qkv_NRD = layer.qkv(_norm(x_NE, layer.norm_in, eps)).unflatten(1, (-1, weights.head_size))
            qkv_NRD = _Rotate.apply(qkv_NRD, layer.norm_qk, cis_N1P, num_rotated, eps)  # type: ignore[no-untyped-call]
            out_NE = attend_joint(qkv_NRD, weights.num_heads, mask, scale=1.0).flatten(1)
            if number == last:  # what follows is only for the tokens whose successors are scored
                x_NE, out_NE = x_NE[wanted_U], out_NE[wanted_U]
            x_NE = layer.out.add(x_NE, out_NE)
            gate_up = layer.gate_up(_norm(x_NE, layer.norm_mlp, eps))
            x_NE = layer.down.add(x_NE, _gated(gate_up, weights.activation))
        return _norm(x_NE, weights.norm_out, eps)


def _rotations(weights: Weights, position_N: Tensor) -> Tensor:
    """[N, 1, P] complex: one rotation for each pair of a head."""
    cos, sin = weights.rotary(torch.empty(0), position_N[None])
    half = weights.head_size // 2
    return torch.complex(cos[0, :, :half].float(), sin[0, :, :half].float())[:, None]


def _norm(x_NE: Tensor, weight_E: Tensor | None, eps: float) -> Tensor:
    """Root mean square norm over the last axis; a weight of None has been folded into what follows."""
    out_NE: Tensor = _Norm.apply(x_NE, eps)  # type: ignore[no-untyped-call]
    return out_NE if weight_E is None else out_NE * weight_E


def _gated(gate_up: Tensor, activation: Any) -> Tensor:
    """[N, M]: activation(gate) * up, of [N, 2 M]."""
    if isinstance(activation, torch.nn.SiLU) or getattr(activation, "__name__", "") == "silu":
        out: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
        return out
    gate, up = gate_up.chunk(2, dim=1)
    return torch.mul(activation(gate), up)


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """[.., 1]: 1 / sqrt(mean square + eps)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def _norm_backward(grad: Tensor, normed: Tensor, inverse: Tensor) -> Tensor:
    """Gradient in x of x * inverse_rms(x); overwrites ``grad``."""
    along = torch.linalg.vecdot(grad, normed)[..., None].div_(-normed.shape[-1])
    return grad.addcmul_(normed, along).mul_(inverse)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NE: Tensor, eps: float) -> Tensor:
        inverse_N1 = _inverse_rms(x_NE, eps)
        normed_NE = x_NE * inverse_N1
        ctx.save_for_backward(normed_NE, inverse_N1)
        return normed_NE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        normed_NE, inverse_N1 = ctx.saved_tensors
        return _norm_backward(grads[0].clone(), normed_NE, inverse_N1), None


class _Rotate(torch.autograd.Function):
    """Norm (if the model has it) and rotate the first ``num_rotated`` heads; the others, values, pass."""

    @staticmethod
    def forward(
        ctx: Any, qkv_NRD: Tensor, weight_RD: Tensor | None, cis_N1P: Tensor, num_rotated: int, eps: float
    ) -> Tensor:
        out_NRD = torch.empty_like(qkv_NRD)
        out_NRD[:, num_rotated:] = qkv_NRD[:, num_rotated:]
        x_NRD = qkv_NRD[:, :num_rotated]
        saved = [cis_N1P]
        if weight_RD is not None:
            inverse_NR1 = _inverse_rms(x_NRD, eps)
            normed_NRD = x_NRD * inverse_NR1
            saved += [weight_RD, normed_NRD, inverse_NR1]
            x_NRD = normed_NRD * weight_RD
        torch.mul(_pairs(x_NRD), cis_N1P, out=_pairs(out_NRD[:, :num_rotated]))
        ctx.save_for_backward(*saved)
        ctx.num_rotated = num_rotated
        return out_NRD

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        cis_N1P, *norm = ctx.saved_tensors
        num_rotated = ctx.num_rotated
        grad_NRD = torch.empty_like(grads[0])
        grad_NRD[:, num_rotated:] = grads[0][:, num_rotated:]
        turned_NRD = grad_NRD[:, :num_rotated]
        torch.mul(_pairs(grads[0][:, :num_rotated]), cis_N1P.conj(), out=_pairs(turned_NRD))
        if not norm:
            return grad_NRD, None, None, None, None
        weight_RD, normed_NRD, inverse_NR1 = norm
        grad_RD = (turned_NRD * normed_NRD).sum(0)
        _norm_backward(turned_NRD.mul_(weight_RD), normed_NRD, inverse_NR1)
        return grad_NRD, grad_RD, None, None, None


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up, of gate and up side by side."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor]:
        (gate_up,) = ctx.saved_tensors
        gate, up = gate_up.chunk(2, dim=1)
        grad = torch.empty_like(gate_up)
        grad_gate, grad_up = grad.chunk(2, dim=1)
        torch.mul(F.silu(gate), grads[0], out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grads[0] * up, gate, grad_input=grad_gate)
        return (grad,)


def _pairs(x_NRD: Tensor) -> Tensor:
    """[N, R, P] complex view."""
    return torch.view_as_complex(x_NRD.unflatten(-1, (-1, 2)))
