"""A run that pays for states, from its recipe to its end: resumable bit for bit, every evaluator, every credit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from askesis.clock import SystemClock
from askesis.errors import RecipeError
from askesis.recipe import Recipe, Resolved, load_recipe
from askesis.store import Group, Store
from askesis.training import loop
from askesis.training.loop import TrainingResult, train
from askesis.training.pieces import make_algorithm
from askesis.training.preflight import prepare
from askesis.training.progress import PlainProgress
from tiny_model import write_tiny_model

RECIPE = Path(__file__).parents[2] / "recipes" / "oases" / "quickstart.toml"
SMALL = [
    "training.steps=3",
    "training.warmup_steps=0",
    "training.lr=1e-3",
    "training.checkpoint_every=1",
    "rollout.groups_per_step=2",
    "rollout.group_size=2",
    "sampling.max_tokens=6",
    "states.max_tokens=4",
    "evaluation.num_tasks=2",
    "environment.options.num_entities=8",
    "environment.options.top_k=1",
    "agent.max_tool_calls=1",
    "agent.result_tokens=16",
    'agent.instruction="Search."',
    "run.threads=1",
]


@pytest.fixture(scope="session")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that searches with whatever it says: each reply opens with the tag."""
    template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    return write_tiny_model(tmp_path_factory.mktemp("searcher") / "model", template=template)


def small(folder: Path, run: Path, *more: str) -> Resolved[Recipe]:
    return load_recipe(RECIPE, [*SMALL, f'policy.name="{folder}"', f'run.dir="{run}"', *more])


def start(resolved: Resolved[Recipe]) -> TrainingResult:
    prepared = prepare(resolved)
    with Path(os.devnull).open("w") as sink, PlainProgress(sink, clock=SystemClock()) as progress:
        return train(resolved, prepared.run, prepared.world, progress)


def trained(run: Path) -> list[Group]:
    with Store.open(run / "store.db", read_only=True) as store:
        assert store.verify(heads=run / "heads.jsonl").ok
        return list(store.groups(store.runs()[0].record.run_id, purpose="train"))


def metrics(run: Path) -> dict[str, list[tuple[int, float | None]]]:
    with Store.open(run / "store.db", read_only=True) as store:
        return store.metrics(store.runs()[0].record.run_id)
