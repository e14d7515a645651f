"""Finding the final answer in what a policy wrote."""

from __future__ import annotations

__all__ = ["extract_answer"]

_OPEN, _CLOSE = "<answer>", "</answer>"


def extract_answer(text: str) -> str | None:
    """The text inside the last closed ``<answer>…</answer>``, stripped; None when there is none.

    Linear in the length of the text; nothing but the two tags is looked at.
    """
    last_close = text.rfind(_CLOSE)
    start = text.rfind(_OPEN, 0, max(last_close, 0))
    if last_close < 0 or start < 0:
        return None
    start += len(_OPEN)
    return text[start : text.find(_CLOSE, start)].strip()
