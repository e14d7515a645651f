"""Looking at tensors before they enter a stage. Stages themselves check nothing and never wait for the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from askesis.algorithms.types import LossInputs, RewardBatch, TokenBatch
from askesis.errors import AlgorithmError

__all__ = ["check_loss_inputs", "check_rewards", "check_tokens", "required"]

_Field = TypeVar("_Field")

_TOKEN_FLOATS = (
    "logp_behaviour_BT",
    "logp_old_BT",
    "entropy_BT",
    "logp_ref_BT",
    "hellinger_BT",
    "step_reward_BT",
    "value_BT",
    "gain_BT",
)


def check_rewards(batch: RewardBatch, needs: frozenset[str]) -> None:
    """AlgorithmError unless rewards are a non-empty float [B], ids int64 [B], and all numbers are finite."""
    _require_fields(batch, needs, "RewardBatch")
    if batch.reward_B.numel() == 0:
        raise AlgorithmError("a batch has no rewards", next_step="train on a batch with at least one judged trajectory")
    floats = {"reward_B": batch.reward_B} | ({} if batch.kl_B is None else {"kl_B": batch.kl_B})
    shape = torch.Size([batch.reward_B.numel()])
    for name, tensor in floats.items():
        _require_form(name, tensor, shape, "[B] float32", tensor.dtype in (torch.float32, torch.float64))
    integers = {"group_B": batch.group_B, "length_B": batch.length_B, "num_turns_B": batch.num_turns_B}
    for name, ids in integers.items():
        if ids is not None:
            _require_form(name, ids, shape, "[B] int64", ids.dtype == torch.int64)
    for name, flags in {"truncated_B": batch.truncated_B, "is_answer_B": batch.is_answer_B}.items():
        if flags is not None:
            _require_form(name, flags, shape, "[B] bool", flags.dtype == torch.bool)
    if batch.progress is not None and not 0 <= batch.progress <= 1:
        raise AlgorithmError(
            "progress is the share of the training that is done", got=batch.progress, expected="a number from 0 to 1"
        )
    _require_finite(floats, torch.ones(shape, dtype=torch.bool, device=batch.reward_B.device))


def check_tokens(tokens: TokenBatch, needs: frozenset[str], num_rewards: int) -> None:
    """AlgorithmError unless all tensors are [B, T], finite at every sampled token, and every row has its reward."""
    _require_fields(tokens, needs, "TokenBatch")
    shape, row = tokens.mask_BT.shape, tokens.sequence_B
    _require_form("mask_BT", tokens.mask_BT, shape, "[B, T] bool", _is_mask(tokens.mask_BT))
    _require_form("sequence_B", row, shape[:1], "[B] int64", row.dtype == torch.int64)
    if row.numel() and not 0 <= int(row.min()) <= int(row.max()) < num_rewards:
        raise AlgorithmError(
            "a row of tokens belongs to no reward",
            where="sequence_B",
            got=f"{int(row.min())} to {int(row.max())}",
            expected=f"0 to {num_rewards - 1}",
        )
    for name in ("turn_BT", "anchor_BT", "state_BT"):
        if (ids := getattr(tokens, name)) is not None:
            _require_form(name, ids, shape, f"{list(shape)} int64", ids.dtype == torch.int64)
    _require_finite(_floats(tokens, _TOKEN_FLOATS, shape), tokens.mask_BT)


def check_loss_inputs(inputs: LossInputs, needs: frozenset[str]) -> None:
    """AlgorithmError unless all tensors are [B, T] of the right dtype and finite at every sampled token."""
    _require_fields(inputs, needs, "LossInputs")
    shape = inputs.mask_BT.shape
    _require_form("mask_BT", inputs.mask_BT, shape, "[B, T] bool", _is_mask(inputs.mask_BT))
    names = ("logp_new_BT", "logp_behaviour_BT", "advantage_BT", "weight_BT", "logp_ref_BT")
    _require_finite(_floats(inputs, names, shape), inputs.mask_BT)


def required(value: _Field | None, name: str, stage: str) -> _Field:
    """``value``; AlgorithmError when a stage that is called by itself was not given it."""
    if value is None:
        raise AlgorithmError(f"{stage} needs {name}", where=name, got="None", next_step=f"give the batch its {name}")
    return value


def _is_mask(mask_BT: Tensor) -> bool:
    return mask_BT.dtype == torch.bool and mask_BT.ndim == 2


def _floats(record: TokenBatch | LossInputs, names: tuple[str, ...], shape: torch.Size) -> dict[str, Tensor]:
    """Those of the fields that are given, of the right form."""
    floats = {name: getattr(record, name) for name in names if getattr(record, name) is not None}
    for name, tensor in floats.items():
        # Half precision has too few digits for a ratio near 1.
        _require_form(name, tensor, shape, f"{list(shape)} float32", tensor.dtype in (torch.float32, torch.float64))
    return floats


def _require_fields(record: RewardBatch | TokenBatch | LossInputs, needs: frozenset[str], where: str) -> None:
    missing = sorted(name for name in needs if getattr(record, name) is None)
    if missing:
        raise AlgorithmError(
            f"the algorithm needs {', '.join(missing)}",
            where=where,
            got="None",
            expected="a value",
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
