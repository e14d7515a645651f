"""The weights that a population is drawn around, kept in a file and not in memory.

Adding noise and subtracting it again does not give the same number back: in bfloat16 the weights of a model are spoilt
after one population. So nothing is ever subtracted. A member is written as *centre + noise*, block by block, from the
file into the model's own tensors, and restoring is writing the centre. That also is cheaper: reading a block takes
less time than drawing its noise a second time.

The file holds float32 (float64 for a model in float64) whatever the model's type is, so that steps smaller than the
model's rounding add up. It has a second place for the displaced weights of ESSAM's second stage.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from askesis.errors import CheckpointError, PolicyError
from askesis.learners.evolution.noise import BLOCK

__all__ = ["Block", "Centre"]


class Block(NamedTuple):
    """A piece of one parameter, and where it lies in the file."""

    name: str
    number: int
    """Within the parameter."""
    weights: torch.Tensor
    """[size] view of the parameter."""
    offset: int
    """Bytes from the start of a place."""


class Centre:
    """Weights in a file.

    Args:
        parameters: name and tensor, each tensor once. Their values become the centre.
        folder: where the file lies, which has no name and goes with the process; None takes the system's folder for
            temporary files.

    Raises:
        PolicyError: a parameter is not a dense floating-point tensor.
    """

    def __init__(self, parameters: Sequence[tuple[str, torch.nn.Parameter]], *, folder: Path | None = None) -> None:
        self._parameters = dict(parameters)
        for name, parameter in parameters:
            if not (parameter.is_floating_point() and parameter.is_contiguous()):
                raise PolicyError(
                    "this parameter cannot be perturbed",
                    where=name,
                    got=f"{parameter.dtype}, strides {parameter.stride()}",
                    expected="contiguous floating-point tensors",
                )
        dtypes = {torch.promote_types(p.dtype, torch.float32) for _, p in parameters}
        self.dtype = torch.float64 if torch.float64 in dtypes else torch.float32
        self._size = sum(p.numel() for _, p in parameters) * self.dtype.itemsize
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)  # open for as long as this object
        self.take()

    @property
    def is_finer(self) -> bool:
        """The file says more than the model's own tensors can."""
        return any(p.dtype != self.dtype for p in self._parameters.values())

    def blocks(self) -> Iterator[Block]:
        """All pieces of all parameters, in order."""
        offset = 0
        for name, parameter in self._parameters.items():
            flat = parameter.detach().view(-1)
            for number, start in enumerate(range(0, len(flat), BLOCK)):
                weights = flat[start : start + BLOCK]
                yield Block(name, number, weights, offset)
                offset += len(weights) * self.dtype.itemsize

    def take(self) -> None:
        """The model's present weights become the centre."""
        for block in self.blocks():
            self.write(block, block.weights.to(self.dtype))

    @torch.no_grad()
    def restore(self) -> None:
        """Write the centre into the model, bit for bit what it was."""
        for block in self.blocks():
            block.weights.copy_(self.read(block))

    @torch.no_grad()
    def show(self, change: Callable[[Block], torch.Tensor], *, displaced: bool) -> None:
        """Write the weights of the given place plus ``change(block)`` [size] into the model."""
        for block in self.blocks():
            block.weights.copy_(self.read(block, displaced=displaced).add_(change(block)))

    def read(self, block: Block, *, displaced: bool = False) -> torch.Tensor:
        """A block of the centre, or of the displaced weights: a new tensor [size] on the model's device."""
        values = torch.empty(len(block.weights), dtype=self.dtype)
        left = _bytes(values)
        self._file.seek(block.offset + self._size * displaced)
        while left:
            left = left[self._file.readinto(left) :]
        return values.to(block.weights.device)

    def write(self, block: Block, values: torch.Tensor, *, displaced: bool = False) -> None:
        """Replace a block in the file."""
        left = _bytes(values.detach().cpu().contiguous())
        self._file.seek(block.offset + self._size * displaced)
        while left:
            left = left[self._file.write(left) :]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The centre by name when the model's own tensors do not say it all, else nothing."""
        if not self.is_finer:
            return {}
        pieces: dict[str, list[torch.Tensor]] = {}
        for block in self.blocks():
            pieces.setdefault(block.name, []).append(self.read(block).cpu())
        return {name: torch.cat(found).view(self._parameters[name].shape) for name, found in pieces.items()}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put back what :meth:`state_dict` gave; the model holds its own tensors already. CheckpointError when they do
        not fit.
        """
        if not self.is_finer:
            self.take()
            return
        shapes = {name: p.shape for name, p in self._parameters.items()}
        if {name: t.shape for name, t in tensors.items()} != shapes:
            raise CheckpointError("the centre of the population belongs to another model")
        flat = {name: t.to(self.dtype).reshape(-1) for name, t in tensors.items()}
        for block in self.blocks():
            start = block.number * BLOCK
            self.write(block, flat[block.name][start : start + len(block.weights)])
        self.restore()


def _bytes(values: torch.Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return memoryview(values.numpy().data).cast("B")
