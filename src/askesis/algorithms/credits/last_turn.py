"""Credit for the last response only: the ablation of credit over several contexts."""

from __future__ import annotations

import torch
from torch import Tensor

from askesis.algorithms.stages import CreditStage
from askesis.algorithms.types import CreditReport, RewardBatch, TokenBatch

__all__ = ["LAST_TURN", "last_turn"]


def last_turn(advantage_BT: Tensor, batch: RewardBatch, tokens: TokenBatch) -> CreditReport:
    """Keep the advantage of each trajectory's last response; all tokens before it get 0.

    With a compact memory the last response stands in a context of its own, so this is a learner that sees only the
    final conversation: an ablation of MemSearcher (arXiv 2511.02805), inferred. Tokens that get 0 still count in the
    denominators of the loss. No gradient flows.

    Args:
        advantage_BT: [B, T] advantages.
        batch: not used.
        tokens: their turns and sequences.

    Returns:
        The advantages; diagnostic ``last_turn_share``: tokens that keep theirs.
    """
    if not tokens.mask_BT.any():
        return CreditReport(advantage_BT=advantage_BT, diagnostics={})
    last_B = torch.where(tokens.mask_BT, tokens.turn_BT, -1).amax(dim=1)
    ids_S, index_B = torch.unique(tokens.sequence_B, return_inverse=True)
    last_S = last_B.new_full((len(ids_S),), -1).scatter_reduce(0, index_B, last_B, "amax")
    is_kept_BT = tokens.mask_BT & (tokens.turn_BT == last_S[index_B][:, None])
    return CreditReport(
        advantage_BT=torch.where(is_kept_BT, advantage_BT, 0.0),
        diagnostics={"last_turn_share": float(is_kept_BT.sum() / tokens.mask_BT.sum())},
    )


LAST_TURN = CreditStage(
    name="last_turn",
    function=last_turn,
    summary="only the last response of a trajectory learns (an ablation)",
)
