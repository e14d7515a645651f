"""A small reader of embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from askesis.alignment import AlignmentError
from askesis.alignment.projector import ProjectorTraining, train_projector


@pytest.mark.parametrize("hidden", [0, 16])
def test_what_can_be_told_apart_is_learnt(hidden: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 3, 400), rng.integers(0, 2, 400)], axis=1)
    rows = (np.eye(3)[labels[:, 0]] @ np.eye(3, 8) + np.eye(2)[labels[:, 1]] @ np.eye(2, 8, 4)).astype(np.float32)
    rows += 0.05 * rng.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    how = ProjectorTraining(hidden=hidden, steps=120, batch=64, lr=0.02)
    reader = train_projector(rows[:300], labels[:300], (3, 2), seed=0, training=how)
    right = reader.right(rows[300:], labels[300:])
    assert right.mean() > 0.97
    again = train_projector(rows[:300], labels[:300], (3, 2), seed=0, training=how)
    np.testing.assert_array_equal(again.right(rows, labels), reader.right(rows, labels))
    noisy = train_projector(rows[:300], labels[:300], (3, 2), seed=0, training=how._replace(sigma=20.0))
    assert noisy.right(rows[300:], labels[300:]).mean() < right.mean()


def test_the_share_of_attributes_that_are_right() -> None:
    rows = np.eye(2, dtype=np.float32)
    reader = train_projector(rows, np.array([[0, 0], [1, 1]]), (2, 2), seed=0, training=ProjectorTraining(hidden=0))
    np.testing.assert_array_equal(reader.right(rows, np.array([[0, 1], [1, 1]])), [0.5, 1.0])


def test_labels_that_do_not_belong_are_refused() -> None:
    with pytest.raises(AlignmentError, match="do not belong"):
        train_projector(np.ones((3, 2), dtype=np.float32), np.zeros((3, 2), dtype=np.int64), (2,), seed=0)
