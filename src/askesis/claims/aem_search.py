"""AEM in the world of search: turns are searches, each of which finds a fact or does not, with one reward at the end.

Nobody chose which turns the policy is sure of; :mod:`askesis.claims.aem` has the worlds where that is known.
"""

from __future__ import annotations

from askesis.claims.aem import ARMS, PAPER
from askesis.claims.reading import held_out_pass, training_mean
from askesis.claims.study import Metric, Part, Scale, Setting, Study
from askesis.environments.search.demonstrations import INSTRUCTION

__all__ = ["STUDY"]

_SETTING = "chains"
_MAX_SEARCHES = 4

STUDY = Study(
    name="aem-search",
    title="Adaptive entropy modulation of the advantages of searches",
    paper=PAPER,
    statement="Scaling each turn's advantage by how sure the policy was of it makes a better searcher than the same "
    "objective without it.",
    measured="nano-search on generated chains of two and three facts, with everything in its context and one reward at "
    "the end, measured on held-out questions at temperature 1. All arms have one learning rate and length, those of "
    "the claim oases.",
    recipe={
        "policy.name": "nano-search",
        "environment.name": "search",
        "environment.family": "chain",
        "environment.options.retriever": "fts5",
        "environment.options.min_hops": 2,
        "environment.options.max_hops": 3,
        "environment.options.reward": "em",
        "agent.instruction": INSTRUCTION,
        "agent.result_tokens": 128,
        "agent.max_tool_calls": _MAX_SEARCHES,
        "evaluation.samples": 2,
        "evaluation.temperature": 1.0,
        "rollout.group_size": 8,
        "rollout.max_turns": 2 * _MAX_SEARCHES,
        "sampling.max_tokens": 48,
        "training.checkpoint_every": 0,
        "training.lr": 1.5e-4,
        "training.warmup_steps": 1,
    },
    arms=ARMS,
    settings=(Setting(name=_SETTING),),
    metrics=(
        Metric(name="right", read=held_out_pass(1), note="held-out answers that are right (F1 = EM)"),
        Metric(name="right in training", read=training_mean("accuracy"), note="mean over all training steps"),
    ),
    parts=(
        Part(statement="Better than without it", metric="right", setting=_SETTING, against="grpo"),
        Part(statement="Better than its reverse", metric="right", setting=_SETTING, against="reversed"),
    ),
    scales={
        "smoke": Scale(
            overrides={
                "environment.options.num_entities": 99,
                "environment.options.max_hops": 2,
                "training.steps": 2,
                "rollout.groups_per_step": 1,
                "rollout.group_size": 2,
                "sampling.max_tokens": 24,
                "evaluation.num_tasks": 2,
                "evaluation.samples": 1,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(
            overrides={"training.steps": 20, "rollout.groups_per_step": 4, "evaluation.num_tasks": 96},
            seeds=4,
            workers=2,
        ),
    },
)
