"""A run that pays for states, from its recipe to its end: resumable bit for bit, with every evaluator."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from askesis.algorithms import PRESETS, build
from askesis.clock import SystemClock
from askesis.environments.search.states import SearchAnswers
from askesis.errors import RecipeError
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.store import Group, Store
from askesis.trace import Task, Trace, Verdict, VerdictStatus
from askesis.training import loop
from askesis.training.loop import TrainingResult, train
from askesis.training.preflight import prepare
from askesis.training.progress import PlainProgress
from small_run import Interrupted

RECIPE = Path(__file__).parents[2] / "recipes" / "oases" / "quickstart.toml"
SMALL = [
    "training.steps=2",
    "training.warmup_steps=0",
    "training.checkpoint_every=1",
    "rollout.groups_per_step=2",
    "rollout.group_size=2",
    "sampling.max_tokens=24",
    "states.max_tokens=8",
    "evaluation.num_tasks=2",
    "environment.options.num_entities=99",
    "environment.options.min_hops=1",
    "environment.options.max_hops=1",
    "environment.options.top_k=1",
    "agent.max_tool_calls=2",
    "run.threads=1",
]


def small(run: Path, *more: str) -> Resolved[Recipe]:
    return load_recipe(RECIPE, [*SMALL, f'run.dir="{run}"', *more])


class EvenAnswers(SearchAnswers):
    """Pays for even letters: something that even a policy that finds nothing does by halves."""

    def score(self, text: str, task: Task) -> float:
        """The share of even ones."""
        return sum(ord(c) % 2 == 0 for c in text) / max(len(text), 1)


class EvenEvaluator:
    """The same for what the policy wrote as a whole."""

    version = "even/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        """Never fails."""
        text = "".join(call.reply.content for call in trace.acts if call.reply is not None)
        share = EvenAnswers(reward="em").score(text, task)
        return Verdict(
            status=VerdictStatus.OK, evaluator=self.version, rewards={"even": (share, 1.0)}, completed=share > 0.5
        )


def start(resolved: Resolved[Recipe]) -> TrainingResult:
    prepared = prepare(resolved)
    world = replace(prepared.world, evaluator=EvenEvaluator(), answer_mode=EvenAnswers(reward="em", request=""))
    with Path(os.devnull).open("w") as sink, PlainProgress(sink, clock=SystemClock()) as progress:
        return train(resolved, prepared.run, world, progress)


def stored(run: Path) -> tuple[list[Group], dict[str, list[tuple[int, float | None]]], str]:
    """Groups trained on, metrics, and the root of the log."""
    with Store.open(run / "store.db", read_only=True) as store:
        assert store.verify(heads=run / "heads.jsonl").ok
        run_id = store.runs()[0].record.run_id
        return list(store.groups(run_id, purpose="train")), store.metrics(run_id), store.head().root


def weights(run: Path) -> list[dict[str, bytes]]:
    files = (run / "model" / "model.safetensors", run / "critic.safetensors")
    return [{name: t.numpy().tobytes() for name, t in load_file(path).items()} for path in files]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("unbroken") / "run"
    start(small(run))
    return run


def test_a_run_keeps_states_and_answers_and_says_what_they_were_worth(unbroken: Path) -> None:
    groups, metrics, _ = stored(unbroken)
    members = [m for g in groups for m in g.members]
    assert any(len(m.verdict.states) > 1 for m in members)  # nano does search
    for member in members:
        forks = [call for call in member.trace.calls if call.fork is not None]
        assert [call.fork.state for call in forks if call.fork] == [s.state for s in member.verdict.states]
    trained = sum(value for _, value in metrics["num_trained_tokens"] if value is not None)
    assert trained == sum(m.trace.num_sampled for m in members)
    assert metrics["sampled_tokens_total"][-1][1] == trained
    for name in ("state_value_0", "state_value_1", "state_gain", "answer_tokens", "value_loss"):
        assert all(value is not None for _, value in metrics[name]), name
    drift = [value for _, value in metrics["drift"]]
    assert all(value is not None and value < 1e-3 for value in drift)  # answers are the policy's own, too
    assert load_file(unbroken / "critic.safetensors")["weight"].abs().sum() > 0
    gains = [b.value - a.value for m in members for a, b in pairwise(m.verdict.states)]
    assert any(gains) and any(value for _, value in metrics["grad_norm"])
    assert not list((unbroken / "model").glob("*critic*"))


@pytest.mark.opt_in
@pytest.mark.parametrize("place", ["_samples", "_checkpoint"])
def test_a_run_that_stops_resumes_to_the_same_end(
    place: str, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = getattr(loop._Trainer, place), 0

    def stop(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Interrupted
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Trainer, place, stop)
        with pytest.raises(Interrupted):
            start(small(tmp_path / "run"))
    start(small(tmp_path / "run"))
    assert weights(tmp_path / "run") == weights(unbroken)
    assert stored(tmp_path / "run")[2] == stored(unbroken)[2]


OTHERS = [p.name for p in PRESETS if build(p.name).has_states and p.name != "oases"]


@pytest.mark.opt_in
@pytest.mark.parametrize(
    "more",
    [
        *([f"algorithm.name={name}", "learner.critic.kind=none"] for name in OTHERS),
        ["states.evaluator=frozen"],
        ["algorithm.name=grpo", "learner.critic.kind=none", "states.answers=2"],
    ],
    ids=str,
)
def test_other_ways_run_too(more: list[str], tmp_path: Path) -> None:
    start(small(tmp_path / "run", "training.steps=1", "evaluation.num_tasks=0", *more))
    groups, metrics, _ = stored(tmp_path / "run")
    forks = [call.fork for g in groups for m in g.members for call in m.trace.calls if call.fork is not None]
    assert {fork.mode for fork in forks} == {"frozen" if "states.evaluator=frozen" in more else "answer"}
    trained = metrics["num_trained_tokens"][0][1]
    acts = sum(len(call.sampled) for g in groups for m in g.members for call in m.trace.acts)
    assert trained is not None and (trained == acts) is ("states.evaluator=frozen" in more)


def test_training_ends_when_its_tokens_are_spent(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = start(
        small(
            run,
            "rollout.groups_per_step=1",
            "training.steps=9",
            "training.max_sampled_tokens=1",
            "states.evaluator=oracle",
        )
    )
    assert result.after is not None
    groups, metrics, _ = stored(run)
    assert [step for step, _ in metrics["reward_mean"]] == [1]
    assert [step for step, _ in metrics["held_out_accuracy"]] == [0, 1]
    assert (run / "checkpoints" / "step-000001").is_dir()
    assert not any(call.fork for g in groups for m in g.members for call in m.trace.calls)
    assert all(s.value == s.truth for g in groups for m in g.members for s in m.verdict.states)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["learner.critic.kind=none"], "there is none"),
        (["algorithm.name=grpo"], "does not look at a critic"),
        (["states.evaluator=none"], "states.max_tokens, states.request"),
        (["environment.options.reward=memory"], "cannot be scored"),
        (["environment.options.answer=boxed"], "cannot be scored"),
        (["agent.context=compact_memory"], "needs agent.context=full"),
        (["algorithm.name=ppo", "states.answer_loss_weight=0.0"], "no answer from them is trained on"),
        (["learner.critic.kind=none", "learner.critic.lr=0.5"], "there is no critic"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_are_refused_before_anything_starts(
    more: list[str], message: str, tmp_path: Path
) -> None:
    from askesis.training.pieces import check_learner

    with pytest.raises(RecipeError, match=message):
        resolved = small(tmp_path / "run", *more)
        check_learner(resolved.recipe)
        prepare(resolved)
    assert not (tmp_path / "run").exists()
