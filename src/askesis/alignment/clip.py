"""Dual encoders of the CLIP class, by transformers: pictures and texts to embeddings, streamed into mapped arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from askesis.alignment.checks import AlignmentError

__all__ = ["PICTURES", "ClipEncoder", "find_pictures"]

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""Files of a folder that are taken for pictures."""


def find_pictures(folder: Path) -> list[Path]:
    """The pictures below a folder, sorted by path. AlignmentError when there is none."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
    if not found:
        raise AlignmentError(
            "there are no pictures here", where=str(folder), expected=f"files ending in {', '.join(PICTURES)}"
        )
    return found


class ClipEncoder:
    """A model with ``get_image_features`` and ``get_text_features`` (CLIP, SigLIP and relatives).

    Args:
        name: a folder in the Hugging Face layout, or a name on its hub.
        device: a torch device.

    Raises:
        AlignmentError: it cannot be loaded, or has not two towers.
    """

    def __init__(self, name: str, *, device: str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        try:
            self._model = AutoModel.from_pretrained(name).eval().to(device)
            self._pictures = AutoImageProcessor.from_pretrained(name)
            self._words = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError, ImportError) as error:
            raise AlignmentError(
                "the encoder cannot be loaded",
                where=name,
                got=str(error),
                expected="a folder or hub name with a model, an image processor and a tokenizer",
            ) from error
        if not hasattr(self._model, "get_image_features") or not hasattr(self._model, "get_text_features"):
            raise AlignmentError(
                "this model is no dual encoder", where=name, got=type(self._model).__name__, expected="for example CLIP"
            )
        self._device = device

    def images(
        self, paths: Sequence[Path], *, batch: int = 64, notify: Callable[[int], None] = lambda rows: None
    ) -> NDArray[np.float32]:
        """Embeddings [n, d] of picture files, as the model gives them. AlignmentError names one that is damaged."""
        from PIL import Image

        def features(part: Sequence[Path]) -> Any:
            pictures = []
            for path in part:
                try:
                    with Image.open(path) as opened:
                        pictures.append(opened.convert("RGB"))
                except OSError as error:
                    raise AlignmentError("a picture cannot be read", where=str(path), got=str(error)) from error
            return self._model.get_image_features(**self._moved(self._pictures(images=pictures, return_tensors="pt")))

        return self._collect(paths, features, batch, notify)

    def texts(
        self, texts: Sequence[str], *, batch: int = 256, notify: Callable[[int], None] = lambda rows: None
    ) -> NDArray[np.float32]:
        """Embeddings [n, d] of texts; what does not fit into the model's window is cut off."""

        def features(part: Sequence[str]) -> Any:
            window = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
            tokens = self._words(list(part), padding=True, truncation=True, max_length=window, return_tensors="pt")
            return self._model.get_text_features(**self._moved(tokens))

        return self._collect(texts, features, batch, notify)

    def _moved(self, inputs: Any) -> dict[str, Any]:
        return {name: value.to(self._device) for name, value in inputs.items()}

    def _collect(
        self, items: Sequence[Any], features: Callable[[Any], Any], batch: int, notify: Callable[[int], None]
    ) -> NDArray[np.float32]:
        import torch

        found = []
        for first in range(0, len(items), batch):
            part = items[first : first + batch]
            with torch.inference_mode():
                given = features(part)
            # Some releases of transformers wrap the projected features.
            tensor = given if isinstance(given, torch.Tensor) else given.pooler_output
            found.append(tensor.float().cpu().numpy())
            notify(len(part))
        return np.concatenate(found)
