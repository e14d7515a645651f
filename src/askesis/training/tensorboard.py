"""TensorBoard event files beside the store, for those who live in it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from askesis.errors import MissingExtra

__all__ = ["ScalarWriter", "open_writer"]


class ScalarWriter(Protocol):
    """What a run needs of a writer."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write one point."""
        ...

    def close(self) -> None:
        """Flush and close the file."""
        ...


def open_writer(folder: Path) -> ScalarWriter:
    """A writer of event files in ``folder``. Raises MissingExtra when TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra("tensorboard", "tensorboard", "training.tensorboard") from error
    writer: ScalarWriter = SummaryWriter(str(folder))
    return writer
