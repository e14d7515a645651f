"""Turn modulators: ``(advantage_BT, RewardBatch, TokenBatch, params) -> CreditReport``, one small file each."""

from torch import Tensor

from askesis.algorithms.modulators.aem import AEM
from askesis.algorithms.stages import ModulatorStage
from askesis.algorithms.types import CreditReport, RewardBatch, TokenBatch

__all__ = ["BUILT_IN_MODULATORS"]


def _unchanged(advantage_BT: Tensor, batch: RewardBatch, tokens: TokenBatch) -> CreditReport:
    return CreditReport(advantage_BT=advantage_BT, diagnostics={})


NONE = ModulatorStage(name="none", function=_unchanged, summary="every turn as the estimator says")

BUILT_IN_MODULATORS: tuple[ModulatorStage, ...] = (NONE, AEM)
