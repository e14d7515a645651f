"""Named algorithms: which stages, with which constants. The constants are the papers', where a paper gives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from askesis.algorithms.aggregation import Aggregation
from askesis.algorithms.estimators.a_nsr import Acting
from askesis.algorithms.estimators.reinforce import Baseline
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
    shaping: str = "none"
    modulator: str = "none"
    credit: str = "none"
    params: Mapping[str, Value] = field(default_factory=dict)


_VERL_AGENT: Mapping[str, Value] = {
    "dual_clip": 3.0,
    "kl_beta": 0.01,
    "kl_estimator": KLEstimator.K3,
    "kl_placement": KLPlacement.LOSS,
}
"""Constants of verl-agent's scripts, on which GiGPO and AEM were measured."""

_SEARCH_R1: Mapping[str, Value] = {
    "kl_beta": 0.001,
    "kl_estimator": KLEstimator.K1,
    "kl_placement": KLPlacement.REWARD,
}
"""The KL penalty of Search-R1's PPO; here it is paid at the end of the answer."""

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
        name="ppo_mean",
        estimator="reinforce",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params={"baseline": Baseline.BATCH_MEAN},
        summary="clipped ratio with the batch mean as baseline, no critic",
        source="Schulman et al. 2017, arXiv 1707.06347",
    ),
    Preset(
        name="ppo",
        estimator="gae",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params=_SEARCH_R1,
        summary="clipped ratio, advantages against a critic's values",
        source="Schulman et al. 2017, arXiv 1707.06347; constants of Search-R1, arXiv 2503.09516",
    ),
    Preset(
        name="oases",
        estimator="oases",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params=_SEARCH_R1,
        summary="PPO with a reward for each search: how much better the question can be answered after it",
        source="Zhang et al. 2026, arXiv 2604.03675, version 1",
    ),
    Preset(
        name="oases_grpo",
        estimator="oases_grpo",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params={"kl_beta": 0.001, "kl_estimator": KLEstimator.K3, "kl_placement": KLPlacement.LOSS},
        summary="the same without a critic: returns of turns are compared within the group",
        source="ours, from arXiv 2604.03675",
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
    Preset(
        name="dapo",
        shaping="overlong",
        estimator="grpo",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params={"clip_high": 0.28, "dynamic_sampling": True},
        summary="GRPO with a higher upper clip, token mean, a length penalty, and no group that teaches nothing",
        source="Yu et al. 2025, arXiv 2503.14476",
    ),
    Preset(
        name="gspo",
        estimator="grpo",
        objective="gspo",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_MEAN,
        summary="GRPO with one importance ratio for the whole sequence",
        source="Zheng et al. 2025, arXiv 2507.18071",
    ),
    Preset(
        name="cispo",
        estimator="grpo",
        objective="cispo",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="GRPO that caps the weight of a token instead of stopping it",
        source="MiniMax 2025, arXiv 2506.13585; cap of verl",
    ),
    Preset(
        name="sapo",
        estimator="grpo",
        objective="sapo",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_MEAN,
        summary="GRPO with a smooth gate in place of the clip",
        source="Gao et al. 2025, arXiv 2511.20347",
    ),
    Preset(
        name="vespo",
        estimator="grpo",
        objective="vespo",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="REINFORCE weighted by a gamma kernel of the whole sequence's importance weight",
        source="Shen et al. 2026, arXiv 2602.10693, versions 1 and 3",
    ),
    Preset(
        name="vespo_docstring",
        estimator="grpo",
        objective="vespo",
        aggregation=Aggregation.TOKEN_MEAN,
        params={"c1_positive": 2.0, "c2_positive": 1.5, "c1_negative": 4.0, "c2_negative": 2.5},
        summary="VESPO with the constants that the authors' code names in a docstring and does not use",
        source="the code of arXiv 2602.10693",
    ),
    Preset(
        name="gigpo",
        estimator="gigpo",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params=_VERL_AGENT,
        summary="advantages of whole episodes plus those of turns that began in the same state",
        source="Feng et al. 2025, arXiv 2505.10978",
    ),
    Preset(
        name="psr",
        estimator="psr",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="rewards right answers only",
        source="Zhu et al. 2025, arXiv 2506.01347",
    ),
    Preset(
        name="nsr",
        estimator="nsr",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params={"dual_clip": 3.0},
        summary="punishes wrong answers only; a dual clip (ours) bounds what long runs can do",
        source="Zhu et al. 2025, arXiv 2506.01347",
    ),
    Preset(
        name="w_reinforce",
        estimator="w_reinforce",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="punishes wrong answers, rewards right ones a tenth as much",
        source="Zhu et al. 2025, arXiv 2506.01347",
    ),
    Preset(
        name="w_reinforce_decay",
        estimator="a_nsr",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params={"acting": Acting.SCALE, "positive_max": 0.1},
        summary="w_reinforce times A-NSR's falling weight: the control of every claim about A-NSR",
        source="ours, for arXiv 2605.07137",
    ),
    Preset(
        name="a_nsr",
        estimator="a_nsr",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="punishes wrong answers less and rewards right ones more as training goes on",
        source="Ingle et al. 2026, arXiv 2605.07137",
    ),
    Preset(
        name="cw_nsr",
        estimator="w_reinforce",
        credit="confidence",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="w_reinforce that punishes wrong answers by how sure the policy was of them",
        source="Ingle et al. 2026, arXiv 2605.07137",
    ),
    Preset(
        name="a_cw_nsr",
        estimator="a_nsr",
        credit="confidence",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        summary="a_nsr and cw_nsr together",
        source="ours, from arXiv 2605.07137",
    ),
    Preset(
        name="grpo_aem",
        estimator="grpo",
        modulator="aem",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params=_VERL_AGENT,
        summary="GRPO for agents, with more advantage on turns that the policy was sure of",
        source="Zhao et al. 2026, arXiv 2605.00425",
    ),
    Preset(
        name="gigpo_aem",
        estimator="gigpo",
        modulator="aem",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params=_VERL_AGENT,
        summary="GiGPO with more advantage on turns that the policy was sure of",
        source="Zhao et al. 2026, arXiv 2605.00425",
    ),
    Preset(
        name="memsearcher",
        estimator="grpo",
        objective="ppo_clip",
        aggregation=Aggregation.TOKEN_MEAN,
        params={
            "dual_clip": 3.0,
            "kl_beta": 0.001,
            "kl_estimator": KLEstimator.K3,
            "kl_placement": KLPlacement.LOSS,
        },
        summary="GRPO over trajectories of several contexts: each context gets its trajectory's advantage",
        source="Yuan et al. 2025, arXiv 2511.02805; without its entropy bonus of 0.001",
    ),
    Preset(
        name="dgpo_hellinger",
        estimator="grpo",
        credit="dgpo_hellinger",
        objective="ppo_clip",
        aggregation=Aggregation.SEQ_MEAN_TOKEN_MEAN,
        summary="GRPO without KL, with more advantage on tokens at which an unsure policy left its reference",
        source="Jin et al. 2026, arXiv 2605.03327",
    ),
)


def find_preset(name: str) -> Preset:
    """The preset called ``name``; RecipeError, with a close match, when there is none."""
    for preset in PRESETS:
        if preset.name == name:
            return preset
    raise unknown_name("algorithm", name, (preset.name for preset in PRESETS))
