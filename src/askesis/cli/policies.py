"""What the commands that take a policy have in common."""

from __future__ import annotations

import json
from pathlib import Path

from askesis.errors import PolicyError
from askesis.policy.folder import BUILT_IN
from askesis.training.rundir import RunDir

__all__ = ["policy_name", "recipe_of"]


def policy_name(name: str) -> str:
    """A run stands for its final model; anything else is taken as it is."""
    run = _run(name)
    if run is None:
        return name
    if not run.model.is_dir():
        raise PolicyError(
            "the run has no final model yet",
            where=str(run.path),
            next_step="let it finish: start the same `askesis train` command again",
        )
    return str(run.model)


def recipe_of(name: str) -> list[str]:
    """The overrides that give a policy the world it knows: a run's own recipe; bare questions for nano."""
    run = _run(name)
    if run is not None:
        values = run.identity()["recipe"].items()
        return [f"{key}={json.dumps(value)}" for key, value in values if value is not None]
    return ['environment.instruction=""'] if name in BUILT_IN else []


def _run(name: str) -> RunDir | None:
    for candidate in (Path(name), Path("runs") / name):
        if (candidate / "run.json").is_file():
            return RunDir(candidate)
    return None
