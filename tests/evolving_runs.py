"""Small runs of evolution in a world that even a random model does by halves."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file

from askesis.clock import SystemClock
from askesis.environments import World
from askesis.environments.fakes import EchoEnvironment, make_echo_world
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.store import Store
from askesis.trace import Task, ToolSpec, Trace, Verdict, VerdictStatus
from askesis.training.loop import TrainingResult, train
from askesis.training.preflight import prepare
from askesis.training.progress import PlainProgress

SMALL = [
    'learner.kind="evolution"',
    'learner.evolution.method="essam"',
    "learner.evolution.sigma=0.05",
    "training.steps=3",
    "training.checkpoint_every=1",
    "rollout.groups_per_step=2",
    "rollout.group_size=6",
    "sampling.max_tokens=6",
    "sampling.temperature=0.0",
    "evaluation.num_tasks=4",
    'environment.instruction=""',
    "run.threads=1",
]


class ParityEvaluator:
    """Rewards even token ids: something that even a random model does by halves."""

    version = "parity/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        tokens = [int(t) for call in trace.calls for t in call.sampled]
        share = sum(t % 2 == 0 for t in tokens) / len(tokens)
        return Verdict(
            status=VerdictStatus.OK, evaluator=self.version, rewards={"even": (share, 1.0)}, completed=share > 0.5
        )


class Mute(EchoEnvironment):
    """Offers no tools, whose description would fill the tiny model's context."""

    def tools(self) -> tuple[ToolSpec, ...]:
        return ()


def parity() -> World:
    world = make_echo_world(turns=2)
    return World(name="parity", environment=Mute(), evaluator=ParityEvaluator(), tasks=world.tasks)


def small(folder: object, run: Path, *more: str) -> Resolved[Recipe]:
    return load_recipe(None, [*SMALL, f'policy.name="{folder}"', f'run.dir="{run}"', *more])


def start(resolved: Resolved[Recipe], world: World | None = None) -> TrainingResult:
    prepared = prepare(resolved)
    with Path(os.devnull).open("w") as sink, PlainProgress(sink, clock=SystemClock()) as progress:
        return train(resolved, prepared.run, world or parity(), progress)


def final(run: Path) -> tuple[dict[str, bytes], str]:
    weights = load_file(run / "model" / "model.safetensors")
    with Store.open(run / "store.db", read_only=True) as store:
        assert store.verify(heads=run / "heads.jsonl").ok
        return {name: t.view(torch.uint8).numpy().tobytes() for name, t in weights.items()}, store.head().root


def groups_of(run: Path) -> list[list[tuple[float | None, tuple[tuple[int, ...], ...]]]]:
    with Store.open(run / "store.db", read_only=True) as store:
        groups = store.groups(store.runs()[0].record.run_id, purpose="train")
        return [
            [(m.verdict.reward, tuple(tuple(c.sampled.tolist()) for c in m.trace.calls)) for m in group.members]
            for group in groups
        ]
