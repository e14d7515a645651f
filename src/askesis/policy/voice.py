"""What it takes to talk for a policy without its weights: tokenizer and template."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from transformers import AutoTokenizer

from askesis.errors import PolicyError
from askesis.policy.folder import resolve_name
from askesis.policy.loading import Policy
from askesis.policy.template import ChatTemplate

__all__ = ["Facts", "Voice", "digest_of_talk", "facts_of", "load_voice"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the model says, for those who do not load it."""

    name: str
    stop_ids: tuple[int, ...]
    context_length: int
    vocab_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """Stands in for a :class:`Policy` where only messages and ids are dealt with."""

    facts: Facts
    template: ChatTemplate
    digest: str
    """Hash of tokenizer and template."""

    @property
    def context_length(self) -> int:
        """Longest sequence, prompt and answer together, in tokens."""
        return self.facts.context_length


def facts_of(policy: Policy) -> Facts:
    """What others must know of the policy to talk for it."""
    return Facts(
        name=policy.name,
        stop_ids=policy.template.stop_ids,
        context_length=policy.context_length,
        vocab_size=int(policy.model.get_input_embeddings().num_embeddings),
    )


def load_voice(facts: Facts) -> Voice:
    """Load the tokenizer of the policy called ``facts.name``. Raises PolicyError when it cannot be."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(resolve_name(facts.name), trust_remote_code=False)
    except Exception as error:  # transformers raises many types; each means that it cannot be used
        raise PolicyError(
            "the tokenizer cannot be loaded", where=facts.name, got=f"{type(error).__name__}: {error}"
        ) from error
    template = ChatTemplate(tokenizer, stop_ids=facts.stop_ids)
    return Voice(facts=facts, template=template, digest=digest_of_talk(tokenizer))


def digest_of_talk(tokenizer: object) -> str:
    """Hash of how text becomes ids and messages become text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    table = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))  # type: ignore[attr-defined]
    template = str(getattr(tokenizer, "chat_template", ""))
    return hashlib.sha256(f"{len(table)}\0{table}\0{template}".encode()).hexdigest()
