"""Rendered shapes, their captions, and a dual encoder trained on them: real embeddings without a download."""

from askesis.alignment.toy.encoder import ToyEncoder, train_toy_encoder
from askesis.alignment.toy.shapes import Scenes, captions_of, draw_scenes, render

__all__ = ["Scenes", "ToyEncoder", "captions_of", "draw_scenes", "render", "train_toy_encoder"]
