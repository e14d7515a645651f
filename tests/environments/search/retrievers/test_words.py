"""Words of a text."""

from __future__ import annotations

from askesis.environments.search.retrievers.words import STOP_WORDS, words


def test_words_are_lower_case_and_say_something() -> None:
    assert words("The Teacher of Kalimo: É2-b!") == ["teacher", "kalimo", "é2", "b"]
    assert words("who is the of") == [] and {"the", "who"} <= STOP_WORDS
