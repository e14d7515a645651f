"""Two files of embeddings from a recipe: the toy world offline, or pictures and texts through a CLIP-class model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import Field

from askesis.alignment.checks import AlignmentError
from askesis.recipe.schema import Section
from askesis.streams import generator

__all__ = ["DataSection", "EmbedRecipe", "Embedded", "EncoderSection", "embed"]

TOY = "toy"


class EncoderSection(Section):
    """Who turns pictures and texts into vectors."""

    name: str = TOY
    """``toy`` is trained here; otherwise a folder in the Hugging Face layout or a name on its hub."""
    steps: int = Field(default=250, ge=1)
    """Training steps of the toy encoder."""
    batch: int = Field(default=64, ge=1)
    """Pictures or texts that another encoder is given at once."""
    device: str = "cpu"


class DataSection(Section):
    """What is embedded."""

    num: int = Field(default=10_000, ge=100)
    """Toy scenes for the images, and as many others for the texts."""
    images: str = ""
    """Folder of pictures, for an encoder that is not the toy."""
    texts: str = ""
    """File with one text per line, for an encoder that is not the toy."""
    seed: int = Field(default=0, ge=0)


class EmbedRecipe(Section):
    """What ``askesis align embed`` does."""

    encoder: EncoderSection = Field(default_factory=EncoderSection)
    data: DataSection = Field(default_factory=DataSection)


class Embedded(NamedTuple):
    """The two files, and their sizes."""

    images: Path
    texts: Path
    num_images: int
    num_texts: int
    size: int


def embed(recipe: EmbedRecipe, folder: Path, *, notify: Callable[[str], None] = lambda line: None) -> Embedded:
    """Write ``images.npy`` and ``texts.npy`` into a folder; ``notify`` is told a line now and then.

    The toy's rows do not belong together: images and texts are of different scenes.

    Raises AlignmentError when the encoder or the data cannot be used.
    """
    clouds = _toy(recipe, notify) if recipe.encoder.name == TOY else _clip(recipe, notify)
    folder.mkdir(parents=True, exist_ok=True)
    paths = (folder / "images.npy", folder / "texts.npy")
    for path, cloud in zip(paths, clouds, strict=True):
        np.save(path, cloud)
    return Embedded(*paths, len(clouds[0]), len(clouds[1]), clouds[0].shape[1])


def _toy(recipe: EmbedRecipe, notify: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    from askesis.alignment.toy import captions_of, draw_scenes, train_toy_encoder
    from askesis.alignment.toy.encoder import Training

    steps, seed, num = recipe.encoder.steps, recipe.data.seed, recipe.data.num

    def told(step: int, loss: float) -> None:
        if (step + 1) % max(1, steps // 10) == 0:
            notify(f"encoder: step {step + 1} of {steps}, loss {loss:.3f}")

    encoder = train_toy_encoder(seed, Training(steps=steps), notify=told)
    rng = generator(seed, "alignment", "toy", "embed")
    images = encoder.images(draw_scenes(num, rng), rng)
    return images, encoder.texts(captions_of(draw_scenes(num, rng), rng))


def _clip(recipe: EmbedRecipe, notify: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
    from askesis.alignment.clip import ClipEncoder, find_pictures

    data, how = recipe.data, recipe.encoder
    if not data.images or not data.texts or not Path(data.texts).is_file():
        raise AlignmentError(
            "this encoder needs pictures and texts",
            got=f"data.images={data.images!r}, data.texts={data.texts!r}",
            expected="a folder of pictures, and a file with one text per line",
        )
    pictures = find_pictures(Path(data.images))
    texts = [line for line in Path(data.texts).read_text(encoding="utf-8").splitlines() if line.strip()]
    encoder = ClipEncoder(how.name, device=how.device)
    notify(f"{len(pictures)} pictures, {len(texts)} texts")
    return encoder.images(pictures, batch=how.batch), encoder.texts(texts, batch=how.batch)
