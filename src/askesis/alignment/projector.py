"""The ReVision idea in small: a projector is trained on texts that were moved among the images, and tested on images.

Yu et al. 2026, section 3.6, train a two-layer projector into a frozen language model on such pseudo-images. Here it
leads to the attributes of a picture instead: what is learnt from text must hold for pictures, and how often it does can
be counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from askesis.alignment.checks import AlignmentError
from askesis.streams import generator, seed_of

__all__ = ["Projector", "ProjectorTraining", "train_projector"]


class ProjectorTraining(NamedTuple):
    """How a projector is trained. ``hidden`` 0 is a softmax regression. ``sigma`` adds fresh noise to every batch and
    projects it to the unit sphere again, which is what C3 does at training.
    """

    hidden: int = 256
    steps: int = 400
    batch: int = 512
    lr: float = 5e-3
    weight_decay: float = 1e-3
    sigma: float = 0.0


class Projector(nn.Module):
    """Embeddings [n, d] to logits of one or more attributes, [n, values] each."""

    def __init__(self, size: int, values: tuple[int, ...], hidden: int, seed: int) -> None:
        super().__init__()
        self.values = values
        last = hidden or size
        self.body = nn.Sequential(nn.Linear(size, hidden), nn.GELU()) if hidden else nn.Identity()
        self.heads = nn.Linear(last, sum(values))
        stream = torch.Generator().manual_seed(seed_of(seed, "alignment", "projector", "weights"))
        with torch.no_grad():
            for parameter in self.parameters():
                bound = parameter.shape[-1] ** -0.5
                parameter.uniform_(-bound, bound, generator=stream)

    def forward(self, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits of each attribute."""
        # Entries of unit vectors are small: scaled, they meet the layer as numbers around 1.
        logits: torch.Tensor = self.heads(self.body(rows * rows.shape[-1] ** 0.5))
        return torch.split(logits, list(self.values), dim=-1)

    @torch.no_grad()
    def right(self, rows: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
        """For each row the share [n] of its attributes [n, attributes] that come out right."""
        found = [part.argmax(-1) for part in self(torch.from_numpy(np.asarray(rows, dtype=np.float32)))]
        right = torch.stack(found, dim=1) == torch.from_numpy(labels)
        return np.asarray(right.double().mean(dim=1).numpy())


def train_projector(
    rows: NDArray[np.float32],
    labels: NDArray[np.int64],
    values: tuple[int, ...],
    *,
    seed: int,
    training: ProjectorTraining | None = None,
) -> Projector:
    """Train on embeddings [n, d] and their attributes [n, attributes], each in ``0 .. values``.

    Raises AlignmentError when labels do not belong to the rows.
    """
    if labels.shape != (len(rows), len(values)):
        raise AlignmentError(
            "labels do not belong to these embeddings", got=labels.shape, expected=(len(rows), len(values))
        )
    how = training or ProjectorTraining()
    model = Projector(rows.shape[1], values, how.hidden, seed)
    rng = generator(seed, "alignment", "projector", "batches")
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.lr, weight_decay=how.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.steps)
    inputs, targets = torch.from_numpy(np.asarray(rows, dtype=np.float32)), torch.from_numpy(labels)
    for _ in range(how.steps):
        chosen = torch.from_numpy(rng.integers(0, len(rows), size=min(how.batch, len(rows))))
        batch = inputs[chosen]
        if how.sigma:
            noise = rng.standard_normal(batch.shape, dtype=np.float32)
            batch = functional.normalize(batch + how.sigma * torch.from_numpy(noise), dim=-1)
        losses = [functional.cross_entropy(p, t) for p, t in zip(model(batch), targets[chosen].T, strict=True)]
        optimiser.zero_grad()
        torch.stack(losses).sum().backward()
        optimiser.step()
        schedule.step()
    return model
