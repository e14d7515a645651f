"""Named algorithms: which stages, with which constants. The constants are the papers', where a paper gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from askesis.algorithms.aggregation import Aggregation
from askesis.algorithms.kl import KLEstimator, KLPlacement
from askesis.algorithms.registry import unknown_name
from askesis.algorithms.stages import Value

__all__ = ["PRESETS", "Preset", "find_preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named algorithm. ``params`` overrides the defaults of the stages named here."""

    name: str
    estimator: str
    objective: str
    aggregation: Aggregation
    summary: str
    source: str
    params: Mapping[str, Value] = field(default_factory=dict)


PRESETS: tuple[Preset, ...] = (
    Preset(
        name="reinforce",
        estimator="reinforce",
        objective="reinforce",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_SUM,
        params={"kl_estimator": KLEstimator.K1, "kl_placement": KLPlacement.REWARD},
        summary="the reward itself times the log-probability of the whole answer",
        source="Williams 1992",
    ),
    Preset(
        name="rloo",
        estimator="rloo",
        objective="reinforce",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_SUM,
        params={"kl_beta": 0.03, "kl_estimator": KLEstimator.K1, "kl_placement": KLPlacement.REWARD},
        summary="REINFORCE whose baseline is the mean of the other answers to the same prompt",
        source="Ahmadian et al. 2024, arXiv 2402.14740",
    ),
    Preset(
        name="grpo",
        estimator="grpo",
        objective="ppo_clip",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_MEAN,
        params={"kl_beta": 0.04, "kl_estimator": KLEstimator.K3, "kl_placement": KLPlacement.LOSS},
        summary="standard scores within the group, clipped ratio, KL penalty in the loss",
        source="Shao et al. 2024, arXiv 2402.03300",
    ),
    Preset(
        name="dr_grpo",
        estimator="dr_grpo",
        objective="ppo_clip",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_SUM_NORM,
        summary="GRPO without its bias towards short answers and towards very easy or very hard questions",
        source="Liu et al. 2025, arXiv 2503.20783",
    ),
)


def find_preset(name: str) -> Preset:
    """The preset called ``name``; RecipeError, with a close match, when there is none."""
    for preset in PRESETS:
        if preset.name == name:
            return preset
    raise unknown_name("algorithm", name, (preset.name for preset in PRESETS))
