"""Messages to token ids and back, so that what was sampled is never tokenised again.

A conversation is encoded once; each later turn appends the sampled ids as they are and encodes only the text that the
chat template adds after them. Text that a user or a tool wrote never becomes a control token: ``<|end|>`` typed by a
user stays seven characters.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from askesis.errors import TemplateError
from askesis.trace.types import Message, ToolCall

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "MaskedIds", "check_mask"]

_Shape = tuple[tuple[str, tuple[ToolCall, ...], str | None, str | None], ...]
"""Messages without their contents: role, tool calls, tool call id and name of each."""


class MaskedIds(NamedTuple):
    """Token ids [n] and which of them the policy is to produce, bool [n]."""

    ids: list[int]
    mask: NDArray[np.bool_]


def check_mask(mask: NDArray[np.bool_], *, where: str) -> None:
    """Raise TemplateError for a mask that selects nothing or everything: both mean that a template went wrong."""
    if not mask.any() or mask.all():
        raise TemplateError(
            "the mask of sampled tokens is all zero" if not mask.any() else "the mask of sampled tokens is all one",
            where=where,
            got=f"{int(mask.sum())} of {len(mask)} tokens",
            expected="prompt tokens outside the mask, at least one sampled token inside",
            next_step="look at the sequence with its mask: the chat template marks the wrong tokens as the assistant's",
        )


class ChatTemplate:
    """A tokenizer's own chat template (Jinja, sandboxed by transformers), with exact continuation.

    ``stop_ids`` end an answer beside the tokenizer's end token: some models close a turn with a token of its own.

    Raises:
        TemplateError: the tokenizer has no chat template or no end-of-turn token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, stop_ids: Sequence[int] = ()) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise TemplateError(
                "the tokenizer has no chat template",
                where=str(getattr(tokenizer, "name_or_path", "")),
                expected="chat_template in tokenizer_config.json or chat_template.jinja",
                next_step="use the instruction-tuned variant of the model, or add a template to its folder",
            )
        if tokenizer.eos_token_id is None:
            raise TemplateError("the tokenizer has no eos_token, so no answer could ever end", expected="eos_token")
        self._tokenizer = tokenizer
        self._stop_ids = tuple(dict.fromkeys([int(tokenizer.eos_token_id), *stop_ids]))
        added = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        self._control = [t for t in {*tokenizer.all_special_tokens, *added} if t]
        self._backend = getattr(
            tokenizer, "backend_tokenizer", None
        )  # the Rust tokenizer: half the time of its wrapper
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        self._salt = secrets.token_hex(8)
        # A rendering with marks depends on roles and calls, not on what was said: sessions of one world share it.
        self._rendering = lru_cache(maxsize=4096)(self._render_marked)
        # An answer is decoded when it is given and once more when the next turn continues it.
        self._decoded = lru_cache(maxsize=4096)(self._decode)

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: the tokenizer's end token, and those that the model's generation settings add."""
        return self._stop_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens removed."""
        return self._decoded(tuple(ids))

    def _decode(self, ids: tuple[int, ...]) -> str:
        if self._backend is None:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))
        return str(self._backend.decode(ids, skip_special_tokens=True))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Text of each id by itself, control tokens shown."""
        return [self._tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids]

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation that ends where the assistant is to speak."""
        return self._encode_marked(self._marked(messages), messages)

    def continue_prompt(
        self,
        known: Sequence[Message],
        context: Sequence[int],
        sampled: Sequence[int],
        messages: Sequence[Message],
    ) -> list[int] | None:
        """Ids of ``messages``, given that its head ``known`` + reply was sent as ``context`` and answered by
        ``sampled``.

        Returns ``context + sampled + new ids``; None if the template rewrites what came before (some drop earlier
        reasoning), in which case the caller encodes the whole conversation anew and the call opens another root.
        """
        if len(messages) <= len(known) or list(messages[: len(known)]) != list(known):
            return None
        reply = messages[len(known)]
        if reply.role != "assistant" or reply.content != self.decode(sampled):
            return None
        before = self._marked(messages[: len(known)])
        whole = self._marked(messages)
        head = before + self._mark(len(known))
        if not whole.startswith(head):
            return None
        tail = whole[len(head) :]
        ending = self.pieces(sampled[-1:])[0] if sampled and int(sampled[-1]) in self.stop_ids else ""
        tail = tail.removeprefix(ending)
        return [*context, *sampled, *self._encode_marked(tail, messages, first=len(known) + 1)]

    def encode_dialogue(self, messages: Sequence[Message]) -> MaskedIds:
        """Ids of a finished dialogue with the mask of what the assistant says, its end-of-turn token included."""
        ids: list[int] = []
        mask: list[bool] = []
        said: list[int] = []
        known: Sequence[Message] = ()
        for index, message in enumerate(messages):
            if message.role != "assistant":
                continue
            head = messages[:index]
            prompt = (
                self.continue_prompt(known, ids[: len(ids) - len(said)], said, head)
                if said
                else self.encode_prompt(head)
            )
            if prompt is None:
                raise TemplateError(
                    "the chat template rewrites earlier turns, so one sequence cannot hold this dialogue",
                    next_step="train on each assistant turn as a dialogue of its own",
                )
            said = [*self.encode_text(message.content), self.stop_ids[0]]
            mask += [False] * (len(prompt) - len(ids)) + [True] * len(said)
            ids, known = [*prompt, *said], head
        result = MaskedIds(ids, np.array(mask, dtype=np.bool_))
        check_mask(result.mask, where="dialogue")
        return result

    def _mark(self, index: int) -> str:
        """Stands for the content of a message, so that a rendering shows where content is and where template is."""
        return f"\ue000{self._salt}x{index}\ue001"

    def _marked(self, messages: Sequence[Message]) -> str:
        """The template's text up to where the assistant is to speak, with marks for contents."""
        return self._rendering(tuple((m.role, m.tool_calls, m.tool_call_id, m.name) for m in messages))

    def _render_marked(self, shape: _Shape) -> str:
        marked = [
            Message(role=role, content=self._mark(i), tool_calls=calls, tool_call_id=call_id, name=name)
            for i, (role, calls, call_id, name) in enumerate(shape)
        ]
        return self.render(marked, generation_prompt=True)

    def _encode_marked(self, text: str, messages: Sequence[Message], *, first: int = 0) -> list[int]:
        """Encode a rendering whose contents are marks; contents that hold control tokens are encoded as plain text.

        Messages before ``first`` have no mark in it.
        """
        names = [self._mark(i) for i in range(first, len(messages))]
        messages = messages[first:]
        if not any(token in m.content for m in messages for token in self._control):
            for name, message in zip(names, messages, strict=True):
                text = text.replace(name, message.content)
            return self._encode_control(text)
        ids: list[int] = []
        while text:
            places = [(text.find(name), i) for i, name in enumerate(names) if name in text]
            if not places:
                ids += self._encode_control(text)
                break
            place, index = min(places)
            if place:
                ids += self._encode_control(text[:place])
            ids += self.encode_text(messages[index].content)
            text = text[place + len(names[index]) :]
        return ids

    def _encode_control(self, text: str) -> list[int]:
        return self._encode(text, is_plain=False)

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; what looks like a control token stays text."""
        return self._encode(text, is_plain=True)

    def _encode(self, text: str, *, is_plain: bool) -> list[int]:
        text = _utf8(text)
        if self._backend is None:
            return list(self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=is_plain))
        self._backend.encode_special_tokens = is_plain  # what the wrapper calls split_special_tokens
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        """The template's text."""
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [m.to_dict() for m in messages], tokenize=False, add_generation_prompt=generation_prompt
                )
            )
        except Exception as error:  # Jinja errors of any kind come from the template
            raise TemplateError(
                "the chat template refuses this conversation",
                got=f"{type(error).__name__}: {error}",
                expected="roles that the model was trained with",
            ) from error


def _utf8(text: str) -> str:
    """Lone surrogates cannot be encoded; they become the replacement character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text
