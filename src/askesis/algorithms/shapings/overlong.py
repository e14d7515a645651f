"""DAPO's soft punishment of answers that come near the length limit."""

from __future__ import annotations

from torch import Tensor

from askesis.algorithms.checks import required
from askesis.algorithms.stages import Param, ShapingStage
from askesis.algorithms.types import RewardBatch

__all__ = ["OVERLONG", "overlong"]


def overlong(batch: RewardBatch, *, overlong_limit: int, overlong_cache: int, overlong_penalty: float) -> Tensor:
    """Soft overlong punishment: nothing until a cache before the limit, then linearly down to the whole penalty.

        R' = R + penalty * clamp((limit - cache - y) / cache, -1, 0),   y = sampled tokens

    Yu et al. 2025 (DAPO), arXiv 2503.14476, equation 13. Groups are called constant by the rewards before this, as
    dynamic sampling must see raw accuracy. No input receives gradient.

    Args:
        batch: rewards and ``length_B``.
        overlong_limit: tokens at which the whole penalty is reached.
        overlong_cache: tokens before the limit in which the penalty grows.
        overlong_penalty: what an answer of the full length loses.

    Returns:
        [B] rewards.
    """
    length_B = required(batch.length_B, "length_B", "shaping 'overlong'")
    excess_B = overlong_limit - overlong_cache - length_B.to(batch.reward_B.dtype)
    return batch.reward_B.detach() + overlong_penalty * (excess_B / overlong_cache).clamp(-1, 0)


OVERLONG = ShapingStage(
    name="overlong",
    function=overlong,
    summary="reward minus a penalty that grows linearly over the last tokens before the limit",
    needs=frozenset({"length_B"}),
    params=(
        Param(
            name="overlong_limit",
            kind=int,
            default=20480,
            minimum=1,
            why="tokens per trajectory at which the whole penalty is reached; set it to the generation limit",
        ),
        Param(
            name="overlong_cache",
            kind=int,
            default=4096,
            minimum=1,
            why="tokens before the limit over which the penalty grows (DAPO: a fifth of the limit)",
        ),
        Param(
            name="overlong_penalty", kind=float, default=1.0, minimum=0, why="what an answer of the full length loses"
        ),
    ),
)
