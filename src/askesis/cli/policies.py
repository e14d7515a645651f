"""What the commands that take a policy have in common."""

from __future__ import annotations

from pathlib import Path

from askesis.errors import PolicyError
from askesis.training.rundir import RunDir

__all__ = ["policy_name"]


def policy_name(name: str) -> str:
    """A run stands for its final model; anything else is taken as it is."""
    for candidate in (Path(name), Path("runs") / name):
        if (candidate / "run.json").is_file():
            model = RunDir(candidate).model
            if not model.is_dir():
                raise PolicyError(
                    "the run has no final model yet",
                    where=str(candidate),
                    next_step="let it finish: start the same `askesis train` command again",
                )
            return str(model)
    return name
