"""A critic that shares the policy's body: a linear map of its last hidden state to what rewards are to be expected.

The value of a token is read where the token is predicted, so it knows the state before the token and not the token.
Shape suffixes: B rows, T sampled tokens of a row, U predicted tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from askesis.errors import CheckpointError

__all__ = ["Critic", "CriticSettings", "ValueHead", "explained_variance", "value_loss"]

_PREFIX = "critic:"


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticSettings:
    """See :class:`askesis.recipe.CriticSection` for units and reasons."""

    lr: float = 1e-3
    loss_weight: float = 0.1
    clip: float | None = 0.5


class ValueHead(torch.nn.Module):
    """The linear map. It starts at zero: nothing is expected before anything was learned."""

    def __init__(self, size: int, *, body_weight: float, device: torch.device) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(size, device=device))
        self.bias = torch.nn.Parameter(torch.zeros((), device=device))
        self._body_weight = body_weight

    def forward(self, hidden_UD: Tensor) -> Tensor:
        """[U] float32. The gradient that goes on into the hidden states is ``body_weight`` times what it would be."""
        read_UD: Tensor = _ScaledGradient.apply(hidden_UD.float(), self._body_weight)  # type: ignore[no-untyped-call]
        return read_UD @ self.weight + self.bias


class _ScaledGradient(torch.autograd.Function):
    """The identity, with its gradient scaled: one weight for the body, another learning rate for the map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


def value_loss(value_new_BT: Tensor, value_old_BT: Tensor, return_BT: Tensor, *, clip: float | None) -> Tensor:
    """The critic's loss per token.

        l = 0.5 * max((V - R)^2, (V_clipped - R)^2),   V_clipped = V_old + clamp(V - V_old, -clip, clip)

    PPO's code and Search-R1, arXiv 2503.09516 (clip 0.5). Without ``clip`` it is half the squared error.

    Args:
        value_new_BT: [B, T] values of the weights that are trained; receives gradient.
        value_old_BT: [B, T] values before the step's first update.
        return_BT: [B, T] what is to be predicted.
        clip: how far a value may move before its loss stops falling.

    Returns:
        [B, T], not divided by anything; padding is the caller's to mask.
    """
    error_BT = (value_new_BT - return_BT).square()
    if clip is not None:
        clipped_BT = value_old_BT + (value_new_BT - value_old_BT).clamp(-clip, clip)
        error_BT = torch.maximum(error_BT, (clipped_BT - return_BT).square())
    return 0.5 * error_BT


def explained_variance(value_BT: Tensor, return_BT: Tensor, mask_BT: Tensor) -> float | None:
    """1 - Var(R - V) / Var(R) over the sampled tokens: 1 for a perfect critic, 0 for one that says a constant.

    None when all returns are equal.
    """
    return_N = return_BT[mask_BT].double()
    if not len(return_N) or bool((return_N == return_N[0]).all()):
        return None
    rest_N = return_N - value_BT[mask_BT].double()
    return 1.0 - float(rest_N.var(correction=0) / return_N.var(correction=0))


class Critic:
    """The map with its optimiser."""

    def __init__(self, model: Any, settings: CriticSettings, *, betas: tuple[float, float]) -> None:
        self.settings = settings
        size = int(model.get_output_embeddings().weight.shape[1])
        self.head = ValueHead(size, body_weight=settings.loss_weight, device=model.device)
        self.parameters = list(self.head.parameters())
        self._optimizer = torch.optim.AdamW(self.parameters, lr=settings.lr, betas=betas, weight_decay=0.0)

    def step(self, factor: float, *, max_grad_norm: float) -> float:
        """One optimiser step at ``factor`` of the learning rate; norm of its gradient, before it was clipped.

        The map's gradient is clipped by itself: it must not take room from the policy's.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, max_grad_norm)
        for group in self._optimizer.param_groups:
            group["lr"] = self.settings.lr * factor
        self._optimizer.step()
        return float(norm)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Tensor]:
        """The map and its optimiser, by names that no parameter of a policy has."""
        tensors = {f"{_PREFIX}{name}": p.detach().clone() for name, p in self.head.named_parameters()}
        for name, parameter in self.head.named_parameters():
            for key, value in self._optimizer.state[parameter].items():
                tensors[f"{_PREFIX}{key}/{name}"] = value.detach().clone()
        return tensors

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what :meth:`state_dict` gave. Raises CheckpointError when it does not fit."""
        for name, parameter in self.head.named_parameters():
            saved = tensors.get(f"{_PREFIX}{name}")
            if saved is None or saved.shape != parameter.shape:
                raise CheckpointError(
                    "the checkpoint has no critic, or that of another model",
                    got=None if saved is None else list(saved.shape),
                    expected=list(parameter.shape),
                )
            with torch.no_grad():
                parameter.copy_(saved)
            state = {
                key.removeprefix(_PREFIX).rpartition("/")[0]: tensor
                for key, tensor in tensors.items()
                if key.startswith(_PREFIX) and key.endswith(f"/{name}")
            }
            if state:
                self._optimizer.state[parameter] = {
                    key: t.clone() if key == "step" else t.to(parameter.device, copy=True) for key, t in state.items()
                }

    def save(self, path: Path) -> None:
        """Write the map as safetensors: ``weight`` [D] and ``bias`` []. Raises CheckpointError when that fails."""
        try:
            save_file({name: p.detach().cpu().contiguous() for name, p in self.head.named_parameters()}, path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError("the critic cannot be written", where=str(path), got=str(error)) from error

    @staticmethod
    def is_own(key: str) -> bool:
        """A key of :meth:`state_dict`."""
        return key.startswith(_PREFIX)
