"""Models that several tests share."""

from __future__ import annotations

from functools import lru_cache

from askesis.diffusion.digits import load_digits, train_digits_denoiser
from askesis.diffusion.fields import EdmDenoiser


@lru_cache(maxsize=1)
def quick_digits() -> EdmDenoiser:
    """A denoiser of digits after a few seconds of training."""
    return train_digits_denoiser(load_digits().train_BD, steps=250, width=96)
