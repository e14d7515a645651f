"""A run's folder: where things lie, what the run is, and how far it got.

RUN/
  run.json            identity: recipe, its hash, seed, versions (never changes)
  state.json          status and bookkeeping (rewritten atomically)
  live.json           what the run is doing now, for those who watch it (rewritten twice a second)
  store.db            every trace, verdict and metric, unless ``store.url`` puts them on a server
  heads.jsonl         heads of the store's log, kept outside the database
  checkpoints/        step-000020/ ...
  model/              final weights in the Hugging Face layout
  critic.safetensors  the critic beside them, where the algorithm has one
  report.html
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from askesis.errors import AskesisError, CheckpointError, RecipeError
from askesis.recipe import NOT_HASHED, Recipe, Resolved

__all__ = ["RunDir", "default_run_dir", "find_run", "out_of_space", "write_json"]

_MIN_FREE_BYTES = 64 << 20
FORMAT_VERSION = 1
_PLACES = frozenset(
    {
        "run.dir",
        "run.log_format",
        "store.outage_s",
        "store.url",
        "observe.metrics_host",
        "observe.metrics_port",
        "observe.traces",
    }
)
"""Keys that only say where a run is kept and who watches it: its record in the store is the same without them."""
_IDENTITY_KEYS = {"format_version", "run_id", "recipe_hash", "recipe", "rows", "seed", "versions"}


def write_json(path: Path, value: object) -> None:
    """Replace ``path`` by ``value`` as JSON: a reader sees the old or the new file, never half of one.

    Raises AskesisError when the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise AskesisError(
            "a file cannot be written",
            where=str(path),
            got=str(error),
            next_step="free some space or mend the permissions, then start the same command again",
        ) from error


def default_run_dir(resolved: Resolved[Recipe]) -> Path:
    """``runs/NAME-HASH``: the same recipe finds its run again."""
    return Path(resolved.recipe.run.dir).expanduser() if resolved.recipe.run.dir else Path("runs") / run_id_of(resolved)


def run_id_of(resolved: Resolved[Recipe]) -> str:
    """Name and identity in one; independent of the folder."""
    return f"{resolved.name}-{resolved.hash[:10]}"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of a run, and its two small files."""

    path: Path

    @property
    def identity_file(self) -> Path:
        """run.json"""
        return self.path / "run.json"

    @property
    def state_file(self) -> Path:
        """state.json"""
        return self.path / "state.json"

    @property
    def store(self) -> Path:
        """store.db"""
        return self.path / "store.db"

    @property
    def live(self) -> Path:
        """live.json"""
        return self.path / "live.json"

    @property
    def store_target(self) -> Path | str:
        """Where the run's records are: the address that it last ran with, or its own file."""
        url = self.state().get("store")
        return str(url) if url else self.store

    @property
    def begun(self) -> bool:
        """Records of the run exist."""
        return self.store.exists() or bool(self.state().get("store"))

    @property
    def heads(self) -> Path:
        """heads.jsonl"""
        return self.path / "heads.jsonl"

    @property
    def checkpoints(self) -> Path:
        """checkpoints/"""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """model/"""
        return self.path / "model"

    @property
    def critic(self) -> Path:
        """critic.safetensors"""
        return self.path / "critic.safetensors"

    @property
    def report(self) -> Path:
        """report.html"""
        return self.path / "report.html"

    def identity(self) -> dict[str, Any]:
        """run.json. Raises CheckpointError when it is missing or broken."""
        identity = self._read(self.identity_file)
        if not identity.keys() >= _IDENTITY_KEYS:
            missing = sorted(_IDENTITY_KEYS - identity.keys())
            raise CheckpointError("a file of the run is broken", where=str(self.identity_file), got=f"no {missing}")
        return identity

    def state(self) -> dict[str, Any]:
        """state.json; empty before the first write."""
        return self._read(self.state_file) if self.state_file.exists() else {}

    def update_state(self, **changes: Any) -> dict[str, Any]:
        """Change fields of state.json atomically."""
        state = {**self.state(), **changes}
        write_json(self.state_file, state)
        return state

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise CheckpointError(
                "this folder is not a run",
                where=str(self.path),
                expected=path.name,
                next_step="`askesis runs` lists runs",
            ) from None
        except ValueError as error:
            raise CheckpointError("a file of the run is broken", where=str(path), got=str(error)) from error
        if not isinstance(value, dict):
            raise CheckpointError("a file of the run is broken", where=str(path), got=type(value).__name__)
        return value

    def check(self, resolved: Resolved[Recipe], versions: Mapping[str, str]) -> None:
        """Raise unless this can be, or already is, the folder of the run that ``resolved`` describes.

        Raises:
            RecipeError: the folder belongs to another recipe, or holds other things.
            AskesisError: it cannot be read.
        """
        with _as_ours(self.path):
            known = self.identity_file.exists()
            if known and self.begun:
                self._check_same(resolved, versions)
            elif not known and self.path.is_dir() and any(self.path.iterdir()):
                raise RecipeError(
                    "the run's folder holds something else",
                    where=f"run.dir={self.path}",
                    got=sorted(p.name for p in self.path.iterdir())[:5],
                    expected="an empty or new folder, or the folder of this run",
                    next_step="choose another run.dir",
                )

    def claim(self, resolved: Resolved[Recipe], versions: Mapping[str, str]) -> None:
        """Make this the folder of the run that ``resolved`` describes.

        Raises:
            RecipeError: as :meth:`check`.
            AskesisError: it cannot be written, or too little space is left.
        """
        self.check(resolved, versions)
        with _as_ours(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.path).free
            if free < _MIN_FREE_BYTES:
                raise out_of_space(self.path, free)
            if self.begun:
                return
            # Until there is a store nothing of a run exists, so a corrected recipe may take the place of a wrong one.
            write_json(
                self.identity_file,
                {
                    "format_version": FORMAT_VERSION,
                    "run_id": run_id_of(resolved),
                    "name": resolved.name,
                    "recipe_hash": resolved.hash,
                    "recipe": {key: value for key, value in resolved.values.items() if key not in _PLACES},
                    "rows": [[r.key, r.value, r.default, r.origin] for r in resolved.rows],
                    "seed": resolved.recipe.run.seed,
                    "versions": dict(versions),
                },
            )

    def _check_same(self, resolved: Resolved[Recipe], versions: Mapping[str, str]) -> None:
        identity = self.identity()
        if identity.get("format_version") != FORMAT_VERSION:
            raise CheckpointError(
                "the run was written by another version of askesis",
                where=str(self.path),
                got=identity.get("format_version"),
                expected=FORMAT_VERSION,
                next_step="resume it with the askesis that wrote it",
            )
        if identity["recipe_hash"] == resolved.hash:
            self._note_versions(identity["versions"], versions)
            return
        before, now = identity["recipe"], resolved.values
        keys = sorted(k for k in before.keys() | now.keys() if k not in NOT_HASHED and before.get(k) != now.get(k))
        raise RecipeError(
            "the run in this folder was started with another recipe",
            where=f"run.dir={self.path}",
            got=", ".join(f"{k}={now.get(k)!r}" for k in keys[:6]),
            expected=", ".join(f"{k}={before.get(k)!r}" for k in keys[:6]),
            next_step="undo these changes to resume it, or choose another run.dir for a new run",
        )

    def _note_versions(self, before: Mapping[str, str], now: Mapping[str, str]) -> None:
        """Resuming with other libraries is allowed, but it is no longer the same run bit for bit: that is kept."""
        changed = sorted(k for k in before if before[k] != now.get(k))
        if changed:
            listed = ", ".join(f"{k} {before[k]} -> {now.get(k)}" for k in changed)
            warnings = self.state().get("warnings", [])
            self.update_state(warnings=sorted({*warnings, f"resumed with other versions: {listed}"}))


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    """The operating system's complaints about a folder, as ours."""
    try:
        yield
    except OSError as error:
        raise AskesisError(
            "the run's folder cannot be written",
            where=str(path),
            got=str(error),
            next_step="choose another run.dir",
        ) from error


def out_of_space(path: Path, free: int) -> AskesisError:
    """The error for a disk that is too full to start on."""
    return AskesisError(
        "too little space is left on the disk",
        where=str(path),
        got=f"{free >> 20} MB free",
        expected=f"at least {_MIN_FREE_BYTES >> 20} MB",
        next_step="free some space, or choose a run.dir on another disk",
    )


def find_run(name: str) -> RunDir:
    """The run called ``name``: a folder, or a name under ``runs/``, whole or shortened to an unambiguous start."""
    for candidate in (Path(name), Path("runs") / name):
        if (candidate / "run.json").is_file():
            return RunDir(candidate)
    matches = sorted(p.parent for p in Path("runs").glob("*/run.json") if p.parent.name.startswith(name))
    if len(matches) == 1:
        return RunDir(matches[0])
    raise CheckpointError(
        "several runs begin with that name" if matches else "there is no such run",
        got=name,
        expected=", ".join(p.name for p in matches) or "a run's folder, or the name of a run under runs/",
        next_step="`askesis runs` lists them",
    )
