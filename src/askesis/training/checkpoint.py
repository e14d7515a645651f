"""Checkpoints that are there whole or not at all.

A checkpoint is written beside its place, made durable, and renamed: a folder ``step-NNNNNN`` that exists is complete.
Its manifest carries the SHA-256 of every file, which loading checks. Only safetensors and JSON are ever read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from askesis.errors import CheckpointError
from askesis.training.rundir import write_json

__all__ = ["Checkpoint", "clean", "latest", "load", "save"]

_MANIFEST = "manifest.json"


class Checkpoint(NamedTuple):
    """What a checkpoint holds."""

    step: int
    weights: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]
    values: dict[str, Any]
    sampler: dict[str, torch.Tensor]
    """Weights that sample; empty when they are the policy's."""


def save(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write ``checkpoint`` below ``folder`` and remove all but the newest ``keep``.

    Raises:
        CheckpointError: the disk is full or cannot be written. What was there before is untouched.
    """
    place = folder / f"step-{checkpoint.step:06d}"
    temporary = folder / f".tmp-step-{checkpoint.step:06d}"
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(_contiguous(checkpoint.weights), temporary / "weights.safetensors")
        save_file(_contiguous(checkpoint.optimizer), temporary / "optimizer.safetensors")
        if checkpoint.sampler:
            save_file(_contiguous(checkpoint.sampler), temporary / "sampler.safetensors")
        write_json(temporary / "values.json", {"step": checkpoint.step, **checkpoint.values})
        files = sorted(p for p in temporary.iterdir() if p.name != _MANIFEST)
        for path in files:
            _sync(path)
        write_json(temporary / _MANIFEST, {p.name: _sha256(p) for p in files})
        _sync(temporary)
        if place.exists():  # a run that was killed after this step and resumed from an earlier one writes it again
            shutil.rmtree(place)
        temporary.replace(place)
        _sync(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise CheckpointError(
            "no space is left for a checkpoint" if full else "a checkpoint cannot be written",
            where=str(place),
            got=str(error),
            next_step="free some space and start the same command again: the run resumes from its last checkpoint",
        ) from error
    except SafetensorError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError("a checkpoint cannot be written", where=str(place), got=str(error)) from error
    for old in _complete(folder)[:-keep]:
        doomed = folder / f".tmp-{old.name}"  # a half-removed folder must not look complete
        old.replace(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    return place


def latest(folder: Path) -> Path | None:
    """The newest checkpoint, or None."""
    found = _complete(folder)
    return found[-1] if found else None


def load(place: Path) -> Checkpoint:
    """Read a checkpoint and check every file against the manifest. Raises CheckpointError, naming the file."""
    try:
        manifest = json.loads((place / _MANIFEST).read_text(encoding="utf-8"))
        for name, expected in manifest.items():
            if _sha256(place / name) != expected:
                raise _damaged(place / name, "its content is not what was written")
        values = json.loads((place / "values.json").read_text(encoding="utf-8"))
        weights = load_file(place / "weights.safetensors")
        optimizer = load_file(place / "optimizer.safetensors")
        sampler = load_file(place / "sampler.safetensors") if "sampler.safetensors" in manifest else {}
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _damaged(place, str(error)) from error
    step = int(values.pop("step"))
    return Checkpoint(step=step, weights=weights, optimizer=optimizer, values=values, sampler=sampler)


def clean(folder: Path) -> None:
    """Remove what an interrupted save left behind."""
    for rest in folder.glob(".tmp-step-*"):
        shutil.rmtree(rest, ignore_errors=True)


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if (p / _MANIFEST).is_file())


def _damaged(path: Path, got: str) -> CheckpointError:
    return CheckpointError(
        "a checkpoint is damaged",
        where=str(path),
        got=got,
        next_step="remove this checkpoint's folder to resume from the one before it, or from the start",
    )


def _contiguous(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: _whole(tensor.detach().cpu().contiguous()) for name, tensor in tensors.items()}


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that shares no memory, which the format forbids; one that has its own is not copied."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
