"""Looking at tensors before they enter a stage. Stages themselves check nothing and never wait for the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from askesis.algorithms.types import LossInputs, RewardBatch
from askesis.errors import AlgorithmError

__all__ = ["check_loss_inputs", "check_rewards"]


def check_rewards(batch: RewardBatch, needs: frozenset[str]) -> None:
    """AlgorithmError unless rewards are a non-empty float [B], ids int64 [B], and all numbers are finite."""
    _require_fields(batch, needs, "RewardBatch")
    if batch.reward_B.numel() == 0:
        raise AlgorithmError("a batch has no rewards", next_step="train on a batch with at least one judged trajectory")
    floats = {"reward_B": batch.reward_B} | ({} if batch.kl_B is None else {"kl_B": batch.kl_B})
    shape = torch.Size([batch.reward_B.numel()])
    for name, tensor in floats.items():
        _require_form(name, tensor, shape, "[B] float32", tensor.dtype in (torch.float32, torch.float64))
    _require_form("group_B", batch.group_B, shape, "[B] int64", batch.group_B.dtype == torch.int64)
    _require_finite(floats, torch.ones(shape, dtype=torch.bool, device=batch.reward_B.device))


def check_loss_inputs(inputs: LossInputs, needs: frozenset[str]) -> None:
    """AlgorithmError unless all tensors are [B, T] of the right dtype and finite at every sampled token."""
    _require_fields(inputs, needs, "LossInputs")
    shape = inputs.mask_BT.shape
    is_mask = inputs.mask_BT.dtype == torch.bool and inputs.mask_BT.ndim == 2
    _require_form("mask_BT", inputs.mask_BT, shape, "[B, T] bool", is_mask)
    names = ("logp_new_BT", "logp_behaviour_BT", "advantage_BT", "weight_BT", "logp_ref_BT")
    floats = {name: getattr(inputs, name) for name in names if getattr(inputs, name) is not None}
    for name, tensor in floats.items():
        # Half precision has too few digits for a ratio near 1.
        _require_form(name, tensor, shape, f"{list(shape)} float32", tensor.dtype in (torch.float32, torch.float64))
    _require_finite(floats, inputs.mask_BT)


def _require_fields(record: RewardBatch | LossInputs, needs: frozenset[str], where: str) -> None:
    missing = sorted(name for name in needs if getattr(record, name) is None)
    if missing:
        raise AlgorithmError(
            f"the algorithm needs {', '.join(missing)}",
            where=where,
            got="None",
            expected="a tensor",
            next_step="compute what Algorithm.needs names, or set kl_beta = 0 if it is for the KL penalty",
        )


def _require_form(name: str, tensor: Tensor, shape: torch.Size, expected: str, has_dtype: bool) -> None:
    if tensor.shape != shape or not has_dtype:
        raise AlgorithmError(
            f"{name} has the wrong shape or dtype",
            where=name,
            got=f"{list(tensor.shape)} {tensor.dtype}",
            expected=expected,
        )


def _require_finite(floats: Mapping[str, Tensor], mask: Tensor) -> None:
    """One wait for the device when all is well."""
    bad = {name: mask & ~torch.isfinite(tensor) for name, tensor in floats.items()}
    if not bool(torch.stack([where.any() for where in bad.values()]).any()):
        return
    name = next(name for name, where in bad.items() if bool(where.any()))
    places = bad[name].nonzero()
    raise AlgorithmError(
        f"{name} is NaN or infinite",
        where=f"{name}{places[0].tolist()}",
        got=f"{floats[name][tuple(places[0])].item()}, {len(places)} of {int(mask.sum())} values",
        expected="finite numbers wherever the mask is True",
        next_step="find its source: an evaluator, a token that the policy gives probability 0, or broken weights",
    )
