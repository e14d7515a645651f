"""Weights on their way to servers: one safetensors file, with the hash of what is in it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from askesis.engines.vllm.server.askesis_vllm import digest
from askesis.errors import EngineError
from askesis.policy.loading import Policy, plain_state, weights_hash

__all__ = ["Snapshot", "write_snapshot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The weights of one version. ``folder`` holds nothing but ``model.safetensors``."""

    version: int
    folder: Path
    content: str
    """Hash of the tensors in the file, as servers compute it."""
    weights: str
    """Hash of the learner's model at that moment, see :func:`askesis.policy.loading.weights_hash`."""

    @property
    def file(self) -> Path:
        """What a server reads."""
        return self.folder / "model.safetensors"

    def remove(self) -> None:
        """Forget it."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_snapshot(policy: Policy, parent: Path, version: int) -> Snapshot:
    """Write the policy's present weights, adapters merged in, under ``parent``. Raises EngineError when it cannot."""
    folder = parent / f"v{version:08d}"
    known: set[tuple[int, tuple[int, ...]]] = set()
    tensors = {}
    for name, tensor in plain_state(policy).items():
        place = (tensor.data_ptr(), tuple(tensor.shape))
        if place not in known:  # a tied head is stored once, by the name that comes first: the embedding's
            known.add(place)
            tensors[name] = tensor.contiguous()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "model.safetensors.part", metadata={"format": "pt"})
        (folder / "model.safetensors.part").replace(folder / "model.safetensors")
    except OSError as error:
        raise EngineError(
            "the weights cannot be written for the servers",
            where=str(folder),
            got=str(error),
            next_step="make room there, or name another folder in engine.vllm.weights_dir",
        ) from error
    return Snapshot(
        version=version, folder=folder, content=digest(sorted(tensors.items())), weights=weights_hash(policy.model)
    )
