"""Small runs of evolution in a world that even a random model does by halves."""

from __future__ import annotations

from pathlib import Path

import small_run
from askesis.environments import World
from askesis.environments.fakes import EchoEnvironment, make_echo_world
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.store import Store
from askesis.trace import ToolSpec
from askesis.training.loop import TrainingResult
from small_run import ParityEvaluator, final

__all__ = ["Mute", "final", "groups_of", "parity", "small", "start"]

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
    return small_run.start(resolved, world or parity())


def groups_of(run: Path) -> list[list[tuple[float | None, tuple[tuple[int, ...], ...]]]]:
    with Store.open(run / "store.db", read_only=True) as store:
        groups = store.groups(store.runs()[0].record.run_id, purpose="train")
        return [
            [(m.verdict.reward, tuple(tuple(c.sampled.tolist()) for c in m.trace.calls)) for m in group.members]
            for group in groups
        ]
