"""OASES: a search is paid by how much better the question can be answered after it.

Every arm samples the same number of tokens in training, the answers from states included: an arm without them plays
more episodes. Answers are single names, so F1 is exact match here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from askesis.claims.reading import FinishedRun, held_out_pass
from askesis.claims.study import Arm, Metric, Overrides, Part, Role, Scale, Setting, Study
from askesis.recipe import load_recipe
from askesis.training.rundir import RunDir, write_json

__all__ = ["POLICY", "STUDY", "gain_area", "value_after"]

POLICY = "nano-search"
"""The policy that all arms start from; it must know how to search."""
_SETTING = "chains"
_MAX_SEARCHES = 4

Values = Sequence[float | None]


def gain_area(run: FinishedRun) -> Values:
    """How well the gains told turns that found a needed fact from the others, over the training.

    An arm whose states are not scored has no gain to tell them by: 0.5.
    """
    known = [value for _, value in run.series.get("gain_auc", ()) if value is not None]
    return [sum(known) / len(known) if known else 0.5]


def value_after(searches: int) -> Callable[[FinishedRun], Values]:
    """What an answer from the state after so many searches is worth, with the final weights: of each held-out question.

    An episode that ended earlier counts with its last state. Played when it is first asked for, and kept with the run.
    """

    def read(run: FinishedRun) -> Values:
        place = run.path / "state-values.json"
        if not place.exists():
            write_json(place, _play(run))
        found: list[list[float]] = json.loads(place.read_text(encoding="utf-8"))
        return [values[min(searches, len(values) - 1)] if values else None for values in found]

    return read


def _play(run: FinishedRun) -> list[list[float]]:
    """The state values of one episode for each held-out question; none for an episode that failed."""
    from askesis.engines.embedded import EmbeddedEngine
    from askesis.training.evaluating import evaluation_sampling
    from askesis.training.groups import group_specs
    from askesis.training.pieces import make_runner, open_policy, state_evaluator
    from askesis.training.preflight import open_world

    known = {key: value for key, value in RunDir(run.path).identity()["recipe"].items() if value is not None}
    changed: dict[str, Any] = {**known, **_STATES, "policy.name": str(run.path / "model")}
    recipe = load_recipe(None, [f"{key}={json.dumps(value)}" for key, value in changed.items()]).recipe

    async def play() -> list[list[float]]:
        policy, world = open_policy(recipe.policy, seed=recipe.run.seed), open_world(recipe)
        engine = EmbeddedEngine(policy, max_batch=recipe.engine.max_batch)
        tasks = world.tasks.distinct_tasks("held_out", recipe.evaluation.num_tasks)
        specs = group_specs("states", "evaluation", 0, tasks, 1, seed=recipe.run.seed)
        sampling = evaluation_sampling(recipe)
        runner = make_runner(recipe, policy, engine, world, sampling, states=state_evaluator(recipe))
        try:
            groups = await runner.run(specs, policy_version=0)
        finally:
            await engine.close()
        return [[state.value for state in group.members[0].verdict.states] for group in groups]

    return asyncio.run(play())


_STATES: Overrides = {"states.evaluator": "policy", "states.request": "", "states.max_tokens": 16}
_CRITIC: Overrides = {"learner.critic.kind": "linear"}


def _oases(judge: str = "policy", **options: float) -> Overrides:
    return {
        "algorithm.name": "oases",
        "algorithm.options.kl_beta": 0.0,
        **{f"algorithm.options.{name}": value for name, value in options.items()},
        **_CRITIC,
        **_STATES,
        "states.evaluator": judge,
    }


STUDY = Study(
    name="oases",
    title="Process rewards from answers of the policy itself",
    paper='Zhang et al. 2026, "OASES: Outcome-Aligned Search-Evaluation Co-Training for Agentic Search", '
    "arXiv 2604.03675",
    statement="Paying each search by how much better the policy itself can answer after it, and training it on these "
    "answers, gives better agents than the reward of the outcome alone.",
    measured=f"{POLICY} on generated chains of two and three facts, measured on held-out questions at temperature 1. "
    "All arms sample the same number of tokens in training, answers from states included, with one learning rate. "
    "Answers are single names: F1 and exact match are the same. Learning rate and length were not tuned.",
    recipe={
        "policy.name": POLICY,
        "environment.name": "search",
        "environment.family": "chain",
        "environment.options.retriever": "fts5",
        "environment.options.min_hops": 2,
        "environment.options.max_hops": 3,
        "environment.options.reward": "em",
        "agent.instruction": "You can search by writing <search>query</search>.",
        "agent.result_tokens": 128,
        "agent.max_tool_calls": _MAX_SEARCHES,
        "evaluation.temperature": 1.0,
        "evaluation.samples": 2,
        "rollout.group_size": 4,
        "rollout.max_turns": 2 * _MAX_SEARCHES,
        "sampling.max_tokens": 48,
        "training.checkpoint_every": 0,
        "training.lr": 1.5e-4,
        "training.warmup_steps": 1,
    },
    free=("states.",),
    arms=(
        Arm(
            name="oases", role=Role.METHOD, overrides=_oases(), note="alpha 0.5 and one answer a state, as in the paper"
        ),
        Arm(
            name="ppo",
            role=Role.BASELINE,
            overrides={"algorithm.name": "ppo", "algorithm.options.kl_beta": 0.0, **_CRITIC},
            note="the same critic, the outcome alone",
        ),
        Arm(
            name="grpo",
            role=Role.BASELINE,
            overrides={
                "algorithm.name": "grpo",
                "algorithm.options.kl_beta": 0.0,
                "algorithm.options.aggregation": "token_mean",
            },
            note="the outcome alone, compared within groups",
        ),
        Arm(
            name="reuse",
            role=Role.CONTROL,
            overrides=_oases(process_weight=0.0),
            note="alpha 0: answers from states are trained on, and pay nothing",
        ),
        Arm(
            name="frozen",
            role=Role.CONTROL,
            overrides=_oases("frozen"),
            note="the initial policy answers, and is not trained on",
        ),
        Arm(
            name="oracle",
            role=Role.VARIANT,
            overrides=_oases("oracle"),
            note="a state is worth the share of the facts that it holds: what a perfect evaluator would give",
        ),
        Arm(name="random", role=Role.CONTROL, overrides=_oases("random"), note="states are worth what chance says"),
    ),
    settings=(Setting(name=_SETTING),),
    metrics=(
        Metric(name="right", read=held_out_pass(1), note="held-out answers that are right (F1 = EM)"),
        Metric(
            name="gain auc",
            read=gain_area,
            note="how well gains tell turns that found a needed fact from the others, in training; 50 is chance",
        ),
        *(
            Metric(
                name=f"answer after {n}",
                read=value_after(n),
                note=f"right answers from the state after {n} searches, or the last one, with the final weights",
            )
            for n in range(_MAX_SEARCHES - 1)
        ),
    ),
    parts=(
        Part(statement="More right answers than the outcome's reward alone gives", metric="right", setting=_SETTING),
        Part(
            statement="The process rewards do it, not the reuse of answers",
            metric="right",
            setting=_SETTING,
            against="reuse",
        ),
        Part(
            statement="Values of chance do not do it",
            metric="right",
            setting=_SETTING,
            against="random",
        ),
        Part(
            statement="A co-trained evaluator pays the right turns more reliably than a frozen one",
            metric="gain auc",
            setting=_SETTING,
            against="frozen",
        ),
    ),
    scales={
        "smoke": Scale(
            overrides={
                "environment.options.num_entities": 99,
                "environment.options.max_hops": 2,
                "training.steps": 2,
                "training.max_sampled_tokens": 200,
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
            overrides={
                "training.steps": 200,
                "training.max_sampled_tokens": 25_000,
                "rollout.groups_per_step": 8,
                "evaluation.num_tasks": 64,
            },
            seeds=3,
            workers=2,
        ),
    },
)
