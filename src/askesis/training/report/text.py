"""Text that others wrote, made fit for a page: control characters shown, length limited."""

from __future__ import annotations

import re

__all__ = ["clip", "visible"]

# Controls (but not tab and newline), lone surrogates, and the characters that turn or hide what stands beside them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    """``text`` with every control, direction or zero-width character written out, for example ``␛`` or ``⟨U+202E⟩``."""
    return _UNSAFE.sub(_name, text)


def _name(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"⟨U+{code:04X}⟩"


def clip(text: str, limit: int) -> str:
    """``text`` cut to ``limit`` characters, with a note of what is missing."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
