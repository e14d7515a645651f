"""Counting evaluations: what enters a share, and what does not."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest

from askesis.environments import make_world
from askesis.environments.play import trace_of
from askesis.evaluation import Interval
from askesis.recipe import load_recipe
from askesis.store import Group, Member
from askesis.trace import Failure, FailureOrigin, Task, Verdict, VerdictStatus
from askesis.training.evaluating import evaluate_policy, evaluation_of, evaluation_sampling, summarise
from askesis.training.report import Estimate, Evaluation


def group(index: int, answer: str, *outcomes: bool | None, text: str = "<think>x</think>") -> Group:
    task = Task(key=str(index), environment="e", payload={"question": "q", "answer": answer})
    members = []
    for place, outcome in enumerate(outcomes):
        if outcome is None:
            error = Failure(origin=FailureOrigin.EVALUATOR, kind="timeout", message="late")
            verdict = Verdict(status=VerdictStatus.ERROR, evaluator="e", error=error)
        else:
            verdict = Verdict(
                status=VerdictStatus.OK,
                evaluator="e",
                rewards={"r": (float(outcome), 1.0)},
                completed=outcome,
                evidence={"answer": "7" if outcome else None},
            )
        members.append(Member(member_index=place, seed=0, trace=trace_of(task, [text]), verdict=verdict))
    return Group(group_id=str(index), run_id="r", purpose="evaluation", step=0, task=task, members=tuple(members))


def test_shares_and_intervals() -> None:
    groups = [group(0, "7", True), group(1, "7", False, text="no"), group(2, "8", None), group(3, "9", True)]
    result = summarise(groups, label="x", temperature=0.0, pass_k=[1], seed=0)
    assert (result.n, result.successes, result.errors) == (3, 2, 1)
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.interval is not None
    # Wilson, 2 of 3, by hand: centre (p + z2/2n)/(1 + z2/n), half-width z sqrt(p(1-p)/n + z2/4n2)/(1 + z2/n).
    assert result.interval == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert result.best_constant == 0.5
    assert result.format_share == pytest.approx(2 / 3) and result.think_share == pytest.approx(2 / 3)
    assert result.pass_at_k == {}


def test_pass_at_k_is_the_unbiased_mean_over_tasks() -> None:
    groups = [group(0, "7", True, False, False, False), group(1, "8", True, True, None, False)]
    result = summarise(groups, label="x", temperature=1.0, pass_k=[1, 2, 4], seed=0)
    # 1 - C(3,2)/C(4,2) = 1/2 and 1 - C(1,2)/C(3,2) = 1; the second task has only three graded answers.
    assert result.pass_at_k[2].value == pytest.approx((0.5 + 1.0) / 2)
    assert result.pass_at_k[4].value == pytest.approx(1.0)
    assert result.pass_at_k[2].interval is not None and result.pass_at_k[4].interval is None


def test_nothing_graded_has_no_accuracy() -> None:
    result = summarise([group(0, "7", None)], label="x", temperature=0.0, pass_k=[1], seed=0)
    assert result.accuracy is None and result.interval is None and result.errors == 1


def test_a_policy_is_measured_without_a_run(tiny_folder: Path) -> None:
    recipe = load_recipe(
        None,
        [
            f'policy.name="{tiny_folder}"',
            "evaluation.num_tasks=6",
            "sampling.max_tokens=5",
            'environment.instruction=""',
        ],
    ).recipe
    world = make_world("reasoning", family="chain_sum", instruction="")
    first = asyncio.run(evaluate_policy(recipe, world))
    assert first.n == 6 and first == asyncio.run(evaluate_policy(recipe, world))
    assert evaluation_sampling(recipe).temperature == 0 and evaluation_sampling(recipe).max_tokens == 5


def test_evaluations_survive_json() -> None:
    evaluation = Evaluation(
        label="after",
        n=10,
        successes=3,
        interval=Interval(0.1, 0.6),
        temperature=0.0,
        pass_at_k={4: Estimate(value=0.5, interval=Interval(0.2, 0.8))},
    )
    assert evaluation_of(json.loads(json.dumps(dataclasses.asdict(evaluation)))) == evaluation
