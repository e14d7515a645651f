"""The synthetic world of the specification's experiment E1, at the size for CI: one seed, 5,000 rows for the fit."""

from __future__ import annotations

import numpy as np
import pytest

from askesis.alignment import METHODS, EmbeddingAligner
from askesis.alignment.gap import centroid_gap, cosine_divergence, neighbour_overlap
from askesis.alignment.projector import ProjectorTraining, train_projector
from askesis.alignment.synthetic import make_world


def test_worlds_are_named_by_their_seed_and_domain() -> None:
    first, again, other = (make_world(seed, size=16, rank=4).draw(20, "x") for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.images, again.images)
    assert not np.allclose(first.images, other.images)
    same_structure, domain = make_world(1, size=16, rank=4), make_world(1, size=16, rank=4, domain="b")
    np.testing.assert_array_equal(domain.base_x, same_structure.base_x)
    assert not np.allclose(domain.bias_x, same_structure.bias_x)
    np.testing.assert_allclose(np.linalg.norm(first.texts, axis=1), 1.0)


def test_the_specifications_orderings() -> None:
    world = make_world(0)
    images, texts = world.draw(5000, "images").images, world.draw(5000, "texts").texts
    held, train = world.draw(1500, "held"), world.draw(4000, "train")
    fits = {method: EmbeddingAligner(method).fit(images, texts) for method in METHODS}
    found = fits["realign"].statistics_
    assert found["t_x"].item() == pytest.approx(0.839, abs=0.02) and found["t_y"].item() == pytest.approx(
        0.585, abs=0.02
    )
    assert found["scale"].item() == pytest.approx(1.197, abs=0.02)
    gaps = {method: centroid_gap(images, fit.transform(texts)) for method, fit in fits.items()}
    assert gaps["none"] > gaps["mean_shift"] > gaps["anchor_trace"] > gaps["realign"]
    moved = {method: fit.transform(held.texts).astype(float) for method, fit in fits.items()}
    overlap = {m: neighbour_overlap(held.texts, moved[m]) for m in ("realign", "whiten")}
    assert overlap["realign"] > 0.8 and overlap["realign"] > 1.4 * overlap["whiten"]
    divergence = {m: cosine_divergence(held.images, moved[m]) for m in ("realign", "mean_shift")}
    assert divergence["realign"] < 0.1 * divergence["mean_shift"]

    def accuracy(rows: np.ndarray) -> float:
        how = ProjectorTraining(hidden=0, steps=250)
        reader = train_projector(rows, train.labels[:, None], (100,), seed=0, training=how)
        return float(reader.right(held.images, held.labels[:, None]).mean())

    reached = {method: accuracy(fits[method].transform(train.texts)) for method in ("none", "realign", "c3")}
    assert reached["realign"] > reached["none"] + 0.03 and reached["realign"] > reached["c3"]
    assert reached["realign"] > accuracy(train.images) - 0.03


def test_more_rows_bring_the_held_out_gap_down() -> None:
    world = make_world(0, size=64)
    held = world.draw(20_000, "held")

    def gap(num: int) -> float:
        fit = EmbeddingAligner().fit(world.draw(num, "images").images, world.draw(num, "texts").texts)
        return centroid_gap(held.images, fit.transform(held.texts))

    few, some, many = (gap(num) for num in (100, 1000, 10_000))
    # Statistics of n rows err by n^-1/2: ten times the rows, a third of the gap.
    assert 0.2 < some / few < 0.5 and 0.2 < many / some < 0.7
