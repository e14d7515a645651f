"""What a reader sees of text that may hold anything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from askesis.training.report.text import clip, visible


def test_hidden_characters_are_written_out() -> None:
    assert visible("a\x00b\x1bc\x7f\u202ed\ud800\ufeff") == "a␀b␛c␡⟨U+202E⟩d⟨U+D800⟩⟨U+FEFF⟩"
    assert visible("tab\tand\nnewline, ü, 漢, 👩‍🔬") == "tab\tand\nnewline, ü, 漢, 👩‍🔬"


@given(st.text(st.characters(codec=None)))
def test_any_text_becomes_printable_utf8(text: str) -> None:
    shown = visible(text)
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert not set(shown) & {chr(c) for c in (*range(9), *range(11, 32), *range(0x202A, 0x202F))}
    assert visible(shown) == shown


def test_clip_tells_what_is_missing() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("a" * 1503, 3) == "aaa… (1,500 more characters)"
