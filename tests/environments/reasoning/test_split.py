from __future__ import annotations

import hashlib
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from askesis.environments.reasoning.split import split_of


def test_known_questions_stay_where_they_are() -> None:
    # First 8 bytes of the SHA-256, by `printf %s TEXT | sha256sum`: b4 of "" is e3b0c44298fc1c14, and 0x14 % 4 == 0.
    assert split_of("") == "held_out"
    # "a": ca978112ca1bbdca, and 0xca % 4 == 2.
    assert split_of("a") == "train"


@given(st.text())
def test_split_depends_on_the_normal_form_alone(text: str) -> None:
    assert split_of(text) in {"train", "held_out"}
    assert split_of(unicodedata.normalize("NFD", text)) == split_of(unicodedata.normalize("NFC", text))


@given(st.text())
def test_split_is_the_documented_rule(text: str) -> None:
    digest = hashlib.sha256(unicodedata.normalize("NFC", text).encode("utf-8")).hexdigest()
    assert (split_of(text) == "held_out") == (int(digest[:16], 16) % 4 == 0)


def test_about_one_question_in_four_is_held_out() -> None:
    held_out = sum(split_of(f"What is {i} + {i * 7}?") == "held_out" for i in range(4000))
    assert 850 < held_out < 1150  # 1000 expected, standard deviation 27
