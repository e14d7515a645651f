"""Scenes of one coloured shape, their pictures and their captions.

A scene has five attributes; 5 shapes x 8 colours x 2 sizes x 9 places x 3 backgrounds are 2160 scenes. A picture adds
jitter, brightness and pixel noise; a caption has one of several wordings, two of which leave the background out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ATTRIBUTES", "PIXELS", "VOCABULARY", "WORDS", "Scenes", "captions_of", "draw_scenes", "render", "tokens_of"]

PIXELS = 32
WORDS = 14
"""Tokens per caption, padded."""

_SHAPES = ("circle", "square", "triangle", "cross", "ring")
_COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
_SIZES = ("small", "large")
_PLACES = tuple(f"{row} {column}" for row in ("top", "middle", "bottom") for column in ("left", "centre", "right"))
_GROUNDS = ("black", "grey", "brown")
ATTRIBUTES = {"shape": _SHAPES, "colour": _COLOURS, "size": _SIZES, "place": _PLACES, "background": _GROUNDS}
"""The values of every attribute, in the order of the columns of :attr:`Scenes.values`."""

_RGB = np.array(
    [
        [0.9, 0.1, 0.1],
        [0.1, 0.7, 0.2],
        [0.2, 0.3, 0.9],
        [0.9, 0.9, 0.1],
        [0.6, 0.1, 0.7],
        [0.1, 0.8, 0.8],
        [1.0, 0.5, 0.0],
        [1.0, 1.0, 1.0],
    ]
)
_GROUND_RGB = np.array([[0.0, 0.0, 0.0], [0.4, 0.4, 0.4], [0.35, 0.2, 0.05]])
_TEMPLATES = (
    "a {size} {colour} {shape} at the {place} on a {background} background",
    "there is a {shape} in {colour} , {size} , {place}",
    "{background} picture with a {size} {shape} , {colour} , at the {place}",
    "at the {place} : one {colour} {shape} , {size} , on {background}",
    "the {shape} at the {place} is {colour} and {size}",
)
VOCABULARY = (
    "<pad>",
    *sorted(
        {w for t in _TEMPLATES for w in t.split() if "{" not in w}
        | set(" ".join(value for values in ATTRIBUTES.values() for value in values).split())
    ),
)
"""Every word of every caption."""


class Scenes(NamedTuple):
    """``values`` [n, 5]: which value of each attribute."""

    values: NDArray[np.int64]


def draw_scenes(num: int, rng: np.random.Generator) -> Scenes:
    """``num`` scenes, each attribute uniform and independent."""
    columns = [rng.integers(0, len(values), size=num) for values in ATTRIBUTES.values()]
    return Scenes(np.stack(columns, axis=1))


def captions_of(scenes: Scenes, rng: np.random.Generator) -> list[str]:
    """One caption for each scene, its wording drawn."""
    chosen = rng.integers(0, len(_TEMPLATES), size=len(scenes.values))
    names = list(ATTRIBUTES)
    found = []
    for template, row in zip(chosen, scenes.values, strict=True):
        words = {name: ATTRIBUTES[name][value] for name, value in zip(names, row, strict=True)}
        found.append(_TEMPLATES[template].format(**words))
    return found


def tokens_of(captions: list[str]) -> NDArray[np.int64]:
    """Word ids [n, WORDS], 0 where a caption has ended."""
    places = {word: place for place, word in enumerate(VOCABULARY)}
    ids = np.zeros((len(captions), WORDS), dtype=np.int64)
    for row, caption in zip(ids, captions, strict=True):
        words = [places[word] for word in caption.split()]
        row[: len(words)] = words
    return ids


def render(scenes: Scenes, rng: np.random.Generator) -> NDArray[np.float32]:
    """Pictures [n, 3, 32, 32] with values around 0..1."""
    shape, colour, size, place, ground = scenes.values.T
    num = len(shape)
    centre = np.stack([place // 3, place % 3]) * 10.0 + 5.5 + rng.uniform(-1.5, 1.5, size=(2, num))
    radius = np.where(size == 0, 3.0, 5.5) + rng.uniform(-0.4, 0.4, size=num)
    offset = (np.arange(PIXELS)[None, None] - centre[:, :, None]) / radius[None, :, None]
    down, right = offset.astype(np.float32)
    inside = _inside(shape, down[:, :, None], right[:, None, :])
    light = rng.uniform(0.8, 1.0, size=(num, 1))
    front = (_RGB[colour] * light).astype(np.float32)[:, :, None, None]
    back = _GROUND_RGB[ground].astype(np.float32)[:, :, None, None]
    noise = rng.standard_normal((num, 3, PIXELS, PIXELS), dtype=np.float32)
    picture: NDArray[np.float32] = np.where(inside[:, None], front, back) + np.float32(0.05) * noise
    return picture


def _inside(shape: NDArray[np.int64], dy: NDArray[np.float32], dx: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which pixels [n, 32, 32] a shape covers; offsets are in radii, rows [n, 32, 1] and columns [n, 1, 32]."""
    found = np.empty((len(shape), PIXELS, PIXELS), dtype=np.bool_)
    for kind in range(len(_SHAPES)):
        chosen = shape == kind
        y, x = abs(dy[chosen]), abs(dx[chosen])
        square = np.maximum(x, y) <= 0.9
        far = x * x + y * y
        match _SHAPES[kind]:
            case "circle":
                found[chosen] = far <= 1
            case "square":
                found[chosen] = square
            case "triangle":
                found[chosen] = (y <= 0.9) & (x <= (dy[chosen] + 0.9) / 1.8)
            case "cross":
                found[chosen] = square & (np.minimum(x, y) <= 0.3)
            case _:
                found[chosen] = (far <= 1.1) & (far >= 0.36)
    return found
