"""Scenes, pictures and captions."""

from __future__ import annotations

import numpy as np

from askesis.alignment.toy.shapes import (
    ATTRIBUTES,
    PIXELS,
    VOCABULARY,
    WORDS,
    Scenes,
    captions_of,
    draw_scenes,
    render,
    tokens_of,
)


def test_a_picture_shows_what_the_scene_says() -> None:
    rng = np.random.default_rng(0)
    # A large red square, bottom left, on black; a small white circle, top right, on grey.
    scenes = Scenes(np.array([[1, 0, 1, 6, 0], [0, 7, 0, 2, 1]]))
    square, circle = render(scenes, rng)
    assert square.shape == (3, PIXELS, PIXELS) and square.dtype == np.float32
    red = square[0] > 0.5
    assert red[16:, :16].sum() > 60 and red[:14].sum() == 0 and red[:, 18:].sum() == 0
    assert abs(square[2][red].mean() - 0.09) < 0.03 and abs(square[:, :10].mean()) < 0.01
    white = circle.min(axis=0) > 0.65
    assert 15 < white.sum() < 45 and white[:12, 20:].sum() == white.sum()
    assert abs(circle[:, 16:, :16].mean() - 0.4) < 0.01


def test_every_shape_covers_its_own_pixels() -> None:
    scenes = Scenes(np.array([[shape, 7, 1, 4, 0] for shape in range(5)]))
    covered = [int((p.min(axis=0) > 0.5).sum()) for p in render(scenes, np.random.default_rng(3))]
    circle, square, triangle, cross, ring = covered
    assert min(covered) > 20 and circle > ring and square > cross and square > triangle


def test_captions_name_the_attributes_and_fit() -> None:
    rng = np.random.default_rng(1)
    scenes = draw_scenes(300, rng)
    captions = captions_of(scenes, rng)
    names = list(ATTRIBUTES)
    for caption, row in zip(captions, scenes.values, strict=True):
        said = {name: ATTRIBUTES[name][value] for name, value in zip(names, row, strict=True)}
        assert all(said[name] in caption for name in ("shape", "colour", "size", "place"))
    assert 0.45 < np.mean([any(g in c for g in ATTRIBUTES["background"]) for c in captions]) < 0.75
    ids = tokens_of(captions)
    assert ids.shape == (300, WORDS) and ids.max() < len(VOCABULARY) and (ids[:, 0] > 0).all()
    first = [VOCABULARY[i] for i in ids[0] if i]
    assert " ".join(first) == captions[0]


def test_scenes_cover_all_values() -> None:
    values = draw_scenes(2000, np.random.default_rng(2)).values
    assert [len(np.unique(column)) for column in values.T] == [len(v) for v in ATTRIBUTES.values()]
