from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from askesis.training.pretraining.tokenizer import END, PAD, ROLES, TAGS, train_tokenizer

TEXTS = ["How many legs are there in total?", "State the final answer: 12 + 34 - 5 =", "12 + 34 = 46 - 5 = 41"]
TOKENIZER = train_tokenizer(TEXTS * 3, 340, 512)
SPECIAL = [PAD, END, *(f"<|{role}|>" for role in ROLES)]


def ids(text: str, tokenizer: PreTrainedTokenizerFast = TOKENIZER, *, split: bool = False) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=split)
    return found


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(ids(text, split=True)) == text


@given(st.integers(min_value=0), st.sampled_from(["", " + ", "-", "x"]))
def test_each_digit_is_one_token(number: int, before: str) -> None:
    tokens = TOKENIZER.convert_ids_to_tokens(ids(f"{before}{number}"))
    assert tokens[-len(str(number)) :] == list(str(number))


def test_words_and_operators_of_the_texts_are_single_tokens() -> None:
    assert len(ids(" + ")) == len(ids(" = ")) == len(ids(" many")) == 1


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_single_tokens_that_decoding_keeps(tag: str) -> None:
    assert len(ids(tag)) == 1
    assert ids(tag) == ids(tag, split=True)
    assert TOKENIZER.decode(ids(f"{tag}7"), skip_special_tokens=True) == f"{tag}7"


@pytest.mark.parametrize("token", SPECIAL)
def test_special_tokens_in_a_users_text_can_be_read_as_text(token: str) -> None:
    one = TOKENIZER.convert_tokens_to_ids(token)
    assert ids(token) == [one]
    split = ids(f"a{token}b", split=True)
    assert not set(split) & set(TOKENIZER.convert_tokens_to_ids(SPECIAL))
    assert TOKENIZER.decode(split) == f"a{token}b"


def test_the_vocabulary_has_the_size_asked_for() -> None:
    assert len(train_tokenizer(["all these words " * 50, *TEXTS], 300, 512)) == 300


def test_the_template_writes_messages_without_line_breaks() -> None:
    messages = [{"role": role, "content": f"{role} text"} for role in ROLES]
    text = TOKENIZER.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "".join(f"<|{role}|>{role} text<|end|>" for role in ROLES) + "<|assistant|>"


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(TemplateError, match="unknown role critic"):
        TOKENIZER.apply_chat_template([{"role": "critic", "content": "no"}], tokenize=False)


def test_a_saved_tokenizer_loads_the_same(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = f"<|user|>12 + 3 é<|end|>{TAGS[0]}"
    assert ids(text, loaded) == ids(text)
    assert (loaded.eos_token, loaded.pad_token, loaded.chat_template) == (END, PAD, TOKENIZER.chat_template)
    assert ids("<|end|>", loaded, split=True) == ids("<|end|>", split=True)
