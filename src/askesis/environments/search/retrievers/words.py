"""The words that lexical retrievers look at."""

from __future__ import annotations

import re

__all__ = ["STOP_WORDS", "words"]

_WORD = re.compile(r"\w+")

_STOP_WORDS = """
a an and are as at be but by did do does for from had has have he her his how i in into is it its of on or s she such t
that the their then there these they this to was were what when where which who whom whose why will with
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""English words that say nothing of what a text is about."""


def words(text: str) -> list[str]:
    """Lower-case words of ``text`` without stop words, in order."""
    return [word for word in _WORD.findall(text.lower()) if word not in STOP_WORDS]
