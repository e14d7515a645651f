"""Talking for a policy without its weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from askesis.errors import PolicyError
from askesis.policy.loading import Policy
from askesis.policy.voice import digest_of_talk, facts_of, load_voice
from askesis.trace import Message


def test_a_voice_says_what_the_policy_would(tiny: Policy) -> None:
    voice = load_voice(facts_of(tiny))
    messages = [Message(role="user", content="what is 1 + 1?")]
    assert voice.template.encode_prompt(messages) == tiny.template.encode_prompt(messages)
    assert voice.template.stop_ids == tiny.template.stop_ids
    assert voice.context_length == tiny.context_length
    assert voice.facts.vocab_size == tiny.model.get_input_embeddings().num_embeddings
    assert voice.digest == digest_of_talk(tiny.tokenizer)


def test_another_template_is_another_voice(tiny: Policy) -> None:
    before = digest_of_talk(tiny.tokenizer)
    tiny.tokenizer.chat_template = f"{tiny.tokenizer.chat_template} "
    assert digest_of_talk(tiny.tokenizer) != before


def test_a_folder_without_a_tokenizer(tiny: Policy, tmp_path: object) -> None:
    with pytest.raises(PolicyError):
        load_voice(replace(facts_of(tiny), name=str(tmp_path)))
