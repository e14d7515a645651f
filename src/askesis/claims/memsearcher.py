"""MemSearcher: a memory that the policy writes itself, against keeping everything and against keeping the last rounds.

All arms start from the same policy, which was shown searches with a memory and searches with everything kept, half of
each. They train on the same questions of two to four facts and are measured on questions of up to twelve. Answers are
single names, so F1 is exact match here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from askesis.claims.reading import FinishedRun
from askesis.claims.study import Arm, Metric, Overrides, Part, Role, Scale, Setting, Study
from askesis.environments.search.demonstrations import INSTRUCTION
from askesis.recipe import load_recipe
from askesis.store import Store
from askesis.training.rundir import RunDir, write_json

__all__ = ["HORIZONS", "STUDY", "at_horizon", "play_horizons", "turn_bias"]

HORIZONS = (2, 4, 8, 12)
"""Facts of a question."""
_TRAINED = 4
_SETTING = "chains"

Values = Sequence[float | None]


def at_horizon(hops: int, name: str) -> Callable[[FinishedRun], Values]:
    """Of each held-out question of ``hops`` facts ``name``, as the evaluator noted it, at the end of the training.

    The sessions are played when they are first asked for, and kept beside the run.
    """

    def read(run: FinishedRun) -> Values:
        place = run.path / f"horizon-{hops}.json"
        if not place.exists():
            write_json(place, _play(run, hops))
        values: list[float | None] = json.loads(place.read_text(encoding="utf-8"))[name]
        return values

    return read


def play_horizons(run: FinishedRun) -> None:
    """Play the questions of every horizon once."""
    for hops in HORIZONS:
        at_horizon(hops, "f1")(run)


def _play(run: FinishedRun, hops: int) -> Mapping[str, Values]:
    """Play the questions of ``hops`` facts with the run's final model; each value by question."""
    from askesis.training.evaluating import held_out_groups
    from askesis.training.preflight import open_world

    known = {key: value for key, value in RunDir(run.path).identity()["recipe"].items() if value is not None}
    changes: Overrides = {
        "policy.name": str(run.path / "model"),
        "environment.options.min_hops": hops,
        "environment.options.max_hops": hops,
        "agent.max_tool_calls": hops + 2,
        "rollout.max_turns": 2 * hops + 6,
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in {**known, **changes}.items()]
    recipe = load_recipe(None, overrides).recipe
    groups = asyncio.run(held_out_groups(recipe, open_world(recipe)))

    def by_question(name: str) -> list[float | None]:
        found = [[m.verdict.evidence.get(name) for m in group.members] for group in groups]
        return [_mean([float(value) for value in values if value is not None]) for values in found]

    return {name: by_question(name) for name in ("f1", "peak_context", "searches")}


def turn_bias(run: FinishedRun) -> Values:
    """How much more than its share an episode of many replies weighs in the loss, step by step.

    The mean number of replies, with episodes weighted as the arm's loss weights them, over the plain mean; 1 is no
    bias. The token mean weights an episode by its sampled tokens, the row mean by its contexts.
    """
    weight = _WEIGHTS[RunDir(run.path).identity()["recipe"].get("algorithm.options.aggregation", "token_mean")]
    by_step: dict[int, list[tuple[float, int]]] = {}
    with Store.open(RunDir(run.path).store, create=False, read_only=True) as store:
        for summary in store.trace_summaries(RunDir(run.path).identity()["run_id"], limit=1 << 31):
            if summary.purpose == "train" and summary.failure is None:
                by_step.setdefault(summary.step, []).append((weight(summary), summary.num_calls))
    return [_over_plain_mean(episodes) for _, episodes in sorted(by_step.items())]


_WEIGHTS: Mapping[str, Callable[[Any], float]] = {
    "token_mean": lambda summary: summary.num_sampled,
    # A turn is a context, and the call for its memory is part of it.
    "row_mean": lambda summary: (summary.num_calls + 1) // 2,
    "seq_mean_token_mean": lambda summary: 1,
}


def _over_plain_mean(episodes: Sequence[tuple[float, int]]) -> float | None:
    total = sum(weight for weight, _ in episodes)
    plain = sum(replies for _, replies in episodes) / len(episodes)
    return sum(weight * replies for weight, replies in episodes) / total / plain if total else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _grpo(context: str, **options: str) -> Overrides:
    return {
        "agent.context": context,
        "algorithm.name": "memsearcher",
        "algorithm.options.kl_beta": 0.0,
        **{f"algorithm.options.{key}": value for key, value in options.items()},
    }


STUDY = Study(
    name="memsearcher",
    title="A compact memory of one's own, trained over several contexts",
    paper='Yuan et al. 2025, "MemSearcher: Training LLMs to Reason, Search and Manage Memory via End-to-End '
    'Reinforcement Learning", arXiv 2511.02805',
    statement="A policy that sees only the question and a memory that it rewrites itself, trained by multi-context "
    "GRPO, answers better than one that keeps everything (ReAct), with contexts that do not grow.",
    measured="nano-search on generated chains of facts: trained on questions of 2 to 4 facts, measured on held-out "
    "ones of 2 to 12, at temperature 1. All arms have the same questions, the same number of episodes, the same limits "
    "and one learning rate. Answers are single names: F1 and exact match are the same. Learning rate and length were "
    "not tuned.",
    recipe={
        "policy.name": "nano-search",
        "environment.name": "search",
        "environment.family": "chain",
        "environment.options.retriever": "fts5",
        "environment.options.min_hops": 2,
        "environment.options.max_hops": _TRAINED,
        "environment.options.reward": "memory",
        "environment.options.thinks": False,
        "agent.instruction": INSTRUCTION,
        "agent.memory_request": "",
        "agent.memory_tokens": 80,
        "agent.result_tokens": 128,
        "agent.max_tool_calls": _TRAINED + 2,
        "evaluation.temperature": 1.0,
        "rollout.group_size": 8,
        "rollout.max_turns": 2 * _TRAINED + 6,
        "sampling.max_tokens": 48,
        "training.checkpoint_every": 0,
        "training.lr": 1.5e-4,
        "training.warmup_steps": 1,
    },
    free=("agent.context", "agent.window"),
    measure=play_horizons,
    arms=(
        Arm(name="memory", role=Role.METHOD, overrides=_grpo("compact_memory"), note="token mean, as in the code"),
        Arm(name="everything", role=Role.BASELINE, overrides=_grpo("full"), note="ReAct: the context grows"),
        Arm(
            name="window",
            role=Role.BASELINE,
            overrides={**_grpo("window"), "agent.window": 2},
            note="the question and the last two searches with what they found",
        ),
        Arm(
            name="memory, row mean",
            role=Role.VARIANT,
            overrides=_grpo("compact_memory", aggregation="row_mean"),
            note="every context weighs the same",
        ),
        Arm(
            name="memory, last reply",
            role=Role.CONTROL,
            overrides=_grpo("compact_memory", credit="last_turn"),
            note="only the last context learns: GRPO without its several contexts",
        ),
    ),
    settings=(Setting(name=_SETTING),),
    metrics=(
        *(Metric(name=f"F1, {n} facts", read=at_horizon(n, "f1"), note="held-out questions") for n in HORIZONS),
        *(
            Metric(
                name=f"peak context, {n} facts",
                read=at_horizon(n, "peak_context"),
                note="longest context of an episode",
                unit="tokens",
                lower_is_better=True,
            )
            for n in HORIZONS
        ),
        Metric(
            name="turn bias",
            read=turn_bias,
            note="mean replies of an episode, weighted as the loss does, over the plain mean; 1 is none",
            unit="",
            lower_is_better=True,
        ),
    ),
    parts=(
        Part(
            statement="Better than keeping everything, far beyond the trained length",
            metric="F1, 12 facts",
            setting=_SETTING,
            against="everything",
        ),
        Part(
            statement="Better than keeping everything at the trained length",
            metric=f"F1, {_TRAINED} facts",
            setting=_SETTING,
            against="everything",
        ),
        Part(statement="Better than the last rounds", metric="F1, 12 facts", setting=_SETTING, against="window"),
        Part(
            statement="Better than credit for the last context only",
            metric=f"F1, {_TRAINED} facts",
            setting=_SETTING,
            against="memory, last reply",
        ),
        Part(
            statement="Shorter contexts than keeping everything",
            metric="peak context, 12 facts",
            setting=_SETTING,
            against="everything",
        ),
    ),
    scales={
        "smoke": Scale(
            overrides={
                "training.steps": 2,
                "rollout.groups_per_step": 2,
                "rollout.group_size": 2,
                "environment.options.max_hops": 2,
                "sampling.max_tokens": 24,
                "evaluation.num_tasks": 2,
            },
            seeds=1,
            workers=0,
            judged=False,
        ),
        "laptop": Scale(
            overrides={"training.steps": 20, "rollout.groups_per_step": 8, "evaluation.num_tasks": 48},
            seeds=3,
            workers=2,
        ),
    },
)
