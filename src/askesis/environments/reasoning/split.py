"""Which questions may be trained on and which are held out: decided by the question's text alone.

A split by content stays disjoint whatever seed, level or program made the question.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Literal

__all__ = ["split_of"]

_HELD_OUT_ONE_IN = 4


def split_of(question: str) -> Literal["train", "held_out"]:
    """``"held_out"`` for one question in four.

    The first 8 bytes (big-endian) of the SHA-256 of the NFC-normalised UTF-8 text, modulo 4; zero is held out.
    """
    digest = hashlib.sha256(unicodedata.normalize("NFC", question).encode()).digest()
    return "held_out" if int.from_bytes(digest[:8], "big") % _HELD_OUT_ONE_IN == 0 else "train"
