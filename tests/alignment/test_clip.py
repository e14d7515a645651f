"""A CLIP model of random weights, made here: pictures and texts become embeddings of one size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizerFast

from askesis.alignment import AlignmentError
from askesis.alignment.clip import ClipEncoder, find_pictures


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    layers = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    end = len(words) - 1
    config = CLIPConfig(
        text_config={
            **layers,
            "vocab_size": len(words),
            "max_position_embeddings": 12,
            "eos_token_id": end,
            "bos_token_id": end - 1,
        },
        vision_config={**layers, "image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt")).save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(5):
        values = rng.integers(0, 255, size=(20, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_pictures_and_texts_have_one_size(clip_folder: Path, pictures: Path) -> None:
    encoder = ClipEncoder(str(clip_folder))
    seen: list[int] = []
    images = encoder.images(find_pictures(pictures), batch=2, notify=seen.append)
    texts = encoder.texts(["a cat", "a dog", "a very long text about nothing at all"], batch=2)
    assert images.shape == (5, 8) and texts.shape == (3, 8) and seen == [2, 2, 1]
    np.testing.assert_allclose(encoder.images(find_pictures(pictures)[3:4])[0], images[3], atol=1e-5)
    assert np.isfinite(images).all() and not np.allclose(texts[0], texts[1])


def test_mistakes_name_their_cause(clip_folder: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(AlignmentError, match="no pictures"):
        find_pictures(empty)
    with pytest.raises(AlignmentError, match="cannot be loaded"):
        ClipEncoder(str(empty))
    (pictures / "5.png").write_bytes(b"nothing")
    with pytest.raises(AlignmentError, match=r"picture cannot be read(.|\n)*5\.png"):
        ClipEncoder(str(clip_folder)).images(find_pictures(pictures))
