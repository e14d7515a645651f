"""Token credits: ``(advantage_BT, RewardBatch, TokenBatch, params) -> CreditReport``, one small file each."""

from torch import Tensor

from askesis.algorithms.credits.confidence import CONFIDENCE
from askesis.algorithms.credits.dgpo_hellinger import DGPO_HELLINGER
from askesis.algorithms.credits.last_turn import LAST_TURN
from askesis.algorithms.stages import CreditStage
from askesis.algorithms.types import CreditReport, RewardBatch, TokenBatch

__all__ = ["BUILT_IN_CREDITS"]


def _unchanged(advantage_BT: Tensor, batch: RewardBatch, tokens: TokenBatch) -> CreditReport:
    return CreditReport(advantage_BT=advantage_BT, diagnostics={})


NONE = CreditStage(name="none", function=_unchanged, summary="every token of a turn alike")

BUILT_IN_CREDITS: tuple[CreditStage, ...] = (NONE, CONFIDENCE, DGPO_HELLINGER, LAST_TURN)
