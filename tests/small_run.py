"""A training run of a tiny model that takes a fraction of a second, and what is left of it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file

from askesis.clock import SystemClock
from askesis.environments import World
from askesis.environments.fakes import make_echo_world
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.store import Store
from askesis.trace import Task, Trace, Verdict, VerdictStatus
from askesis.training.loop import TrainingResult, train
from askesis.training.preflight import prepare
from askesis.training.progress import PlainProgress
from askesis.training.rundir import RunDir

SMALL = [
    "training.steps=4",
    "training.lr=1e-3",
    "training.checkpoint_every=1",
    "training.max_drift=1e-3",
    "rollout.groups_per_step=2",
    "rollout.group_size=3",
    "sampling.max_tokens=6",
    "evaluation.num_tasks=4",
    'environment.instruction=""',
    "agent.format=none",
    "algorithm.options.kl_beta=0.0",
    "run.threads=1",
]

NANO = [
    "policy.name=nano",
    "environment.family=decimal_chain_sum",
    "agent.format=tags",
    "sampling.max_tokens=24",
    "rollout.groups_per_step=4",
    "rollout.group_size=4",
    "evaluation.num_tasks=0",
    "algorithm.options.kl_beta=0.0",
    "training.lr=1e-5",
    "run.threads=1",
    "cluster.cpus_per_worker=0.5",
    "cluster.cpus_per_environment_worker=0.5",
]
"""The built-in policy in a world that workers elsewhere can open."""


class Interrupted(BaseException):
    """Stands for the process's end: nothing may catch it."""


class ParityEvaluator:
    """Rewards even token ids: something that even a random model does by halves, so that every step has a gradient."""

    version = "parity/1"

    async def score(self, trace: Trace, task: Task) -> Verdict:
        tokens = [int(t) for call in trace.calls for t in call.sampled]
        share = sum(t % 2 == 0 for t in tokens) / len(tokens)
        return Verdict(
            status=VerdictStatus.OK, evaluator=self.version, rewards={"even": (share, 1.0)}, completed=share > 0.5
        )


def parity() -> World:
    world = make_echo_world(turns=2)
    return World(name="parity", environment=world.environment, evaluator=ParityEvaluator(), tasks=world.tasks)


def small(folder: object, run: Path, *more: str) -> Resolved[Recipe]:
    return load_recipe(None, [*SMALL, f'policy.name="{folder}"', f'run.dir="{run}"', *more])


def start(resolved: Resolved[Recipe], world: World | None = None) -> TrainingResult:
    prepared = prepare(resolved)
    with Path(os.devnull).open("w") as sink, PlainProgress(sink, clock=SystemClock()) as progress:
        return train(resolved, prepared.run, world or parity(), progress)


def final(run: Path) -> tuple[dict[str, bytes], str]:
    """Weights, and the root of the store, which is verified."""
    weights = load_file(run / "model" / "model.safetensors")
    with Store.open(RunDir(run).store_target, create=False, read_only=True) as store:
        assert store.verify(heads=run / "heads.jsonl").ok
        return {name: t.view(torch.uint8).numpy().tobytes() for name, t in weights.items()}, store.head().root
