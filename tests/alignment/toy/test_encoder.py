"""The dual encoder learns a little in seconds, with a gap that nobody put there."""

from __future__ import annotations

import numpy as np
import torch

from askesis.alignment.gap import centroid_gap
from askesis.alignment.toy import ToyEncoder, captions_of, draw_scenes, train_toy_encoder
from askesis.alignment.toy.encoder import Training
from askesis.alignment.toy.shapes import tokens_of


def test_the_loss_falls_and_a_gap_is_there() -> None:
    losses: list[float] = []
    how = Training(steps=30, batch=64)
    encoder = train_toy_encoder(0, how, notify=lambda step, loss: losses.append(loss))
    assert len(losses) == 30 and np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    rng = np.random.default_rng(0)
    scenes = draw_scenes(300, rng)
    images, texts = encoder.images(scenes, rng), encoder.texts(captions_of(scenes, rng))
    assert images.shape == texts.shape == (300, 64)
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1.0, atol=1e-5)
    assert centroid_gap(images, texts) > 0.3


def test_the_same_seed_gives_the_same_encoder() -> None:
    captions = captions_of(draw_scenes(5, np.random.default_rng(0)), np.random.default_rng(0))
    first, again, other = (train_toy_encoder(seed, Training(steps=2, batch=8)).texts(captions) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_padding_does_not_change_a_caption() -> None:
    encoder = ToyEncoder(0).eval()
    ids = torch.from_numpy(tokens_of(["a small red circle"]))
    longer = torch.cat([ids[:, :4], torch.zeros(1, 10, dtype=ids.dtype)], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_words(ids), encoder.encode_words(longer))
        assert not torch.allclose(encoder.encode_words(ids), encoder.encode_words(ids[:, [1, 0, 2, 3, *range(4, 14)]]))
