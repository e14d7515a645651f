"""A dual encoder of a convolutional and a small transformer tower, trained by symmetric InfoNCE (as CLIP is).

Nothing puts a gap into it. Two untrained towers map everything into two narrow cones, and at CLIP's final temperature
of 0.01 the loss pulls only differences together (Liang et al. 2022, arXiv 2203.02053). With a learnt temperature, which
stays above 0.05 in so small a world, the gap closes by itself to a tenth of that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from askesis.alignment.toy.shapes import VOCABULARY, WORDS, Scenes, captions_of, draw_scenes, render, tokens_of
from askesis.streams import generator, seed_of

__all__ = ["ToyEncoder", "Training", "train_toy_encoder"]

_WIDTH = 64


class Training(NamedTuple):
    """How the encoder is trained; chosen for time on seed 900."""

    steps: int = 250
    batch: int = 256
    lr: float = 2e-3
    temperature: float = 0.01


class ToyEncoder(nn.Module):
    """Pictures [n, 3, 32, 32] and word ids [n, WORDS] to unit vectors [n, 64]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.picture = nn.Sequential(
            nn.Conv2d(3, 12, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(12, 24, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(24, 48, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(48 * 16, 128),
            nn.GELU(),
            nn.Linear(128, _WIDTH),
        )
        self.words = nn.Embedding(len(VOCABULARY), _WIDTH)
        self.places = nn.Parameter(torch.zeros(WORDS, _WIDTH))
        self.reader = nn.TransformerEncoderLayer(_WIDTH, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.summary = nn.Linear(_WIDTH, _WIDTH)
        stream = torch.Generator().manual_seed(seed_of(seed, "alignment", "toy", "weights"))
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.dim() > 1:
                    bound = (3 / parameter[0].numel()) ** 0.5
                    parameter.uniform_(-bound, bound, generator=stream)
            for layer in self.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None:
                    bound = layer.weight[0].numel() ** -0.5
                    layer.bias.uniform_(-bound, bound, generator=stream)

    def encode_pictures(self, pictures: torch.Tensor) -> torch.Tensor:
        """[n, 3, 32, 32] to [n, 64]."""
        return functional.normalize(self.picture(pictures), dim=-1)

    def encode_words(self, ids: torch.Tensor) -> torch.Tensor:
        """[n, WORDS] to [n, 64]."""
        padding = ids == 0
        read = self.reader(self.words(ids) + self.places, src_key_padding_mask=padding)
        weight = (~padding).float()[..., None]
        return functional.normalize(self.summary((read * weight).sum(1) / weight.sum(1)), dim=-1)

    @torch.no_grad()
    def images(self, scenes: Scenes, rng: np.random.Generator) -> NDArray[np.float32]:
        """Embeddings [n, 64] of new pictures of the scenes."""
        parts = [Scenes(scenes.values[i : i + 1024]) for i in range(0, len(scenes.values), 1024)]
        return np.concatenate([self.encode_pictures(torch.from_numpy(render(p, rng))).numpy() for p in parts])

    @torch.no_grad()
    def texts(self, captions: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings [n, 64] of captions."""
        ids = torch.from_numpy(tokens_of(list(captions)))
        return np.concatenate([self.encode_words(part).numpy() for part in ids.split(1024)])


def train_toy_encoder(
    seed: int, training: Training | None = None, *, notify: Callable[[int, float], None] = lambda step, loss: None
) -> ToyEncoder:
    """Train an encoder on fresh scenes in every step; ``notify`` is told the step and its loss."""
    how = training or Training()
    model = ToyEncoder(seed).train()
    rng = generator(seed, "alignment", "toy", "training")
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.lr, total_steps=how.steps, pct_start=0.1)
    targets = torch.arange(how.batch)
    for step in range(how.steps):
        scenes = draw_scenes(how.batch, rng)
        ids = torch.from_numpy(tokens_of(captions_of(scenes, rng)))
        images = model.encode_pictures(torch.from_numpy(render(scenes, rng)))
        logits = images @ model.encode_words(ids).T / how.temperature
        loss = (functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        notify(step, float(loss.detach()))
    return model.eval()
