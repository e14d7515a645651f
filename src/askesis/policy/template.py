"""Messages to token ids and back, so that what was sampled is never tokenised again.

A conversation is encoded once; each later turn appends the sampled ids as they are and encodes only the text that the
chat template adds after them. Text that a user or a tool wrote never becomes a control token: ``<|end|>`` typed by a
user stays seven characters.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from askesis.errors import TemplateError
from askesis.trace.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ChatTemplate", "MaskedIds", "check_mask"]


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

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end an answer: the tokenizer's end token, and those that the model's generation settings add."""
        return self._stop_ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens removed."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Text of each id by itself, control tokens shown."""
        return [self._tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in ids]

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation that ends where the assistant is to speak."""
        return self._encode(messages, generation_prompt=True)

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
        marks = _Marks(messages)
        before = marks.render(self, messages[: len(known)], generation_prompt=True)
        whole = marks.render(self, messages, generation_prompt=True)
        head = before + marks.names[len(known)]
        if not whole.startswith(head):
            return None
        tail = whole[len(head) :]
        ending = self.pieces(sampled[-1:])[0] if sampled and int(sampled[-1]) in self.stop_ids else ""
        tail = tail.removeprefix(ending)
        return [*context, *sampled, *self._encode_marked(tail, marks)]

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

    def _encode(self, messages: Sequence[Message], *, generation_prompt: bool) -> list[int]:
        marks = _Marks(messages)
        return self._encode_marked(marks.render(self, messages, generation_prompt=generation_prompt), marks)

    def _encode_marked(self, text: str, marks: _Marks) -> list[int]:
        """Encode a rendering whose contents are marks; contents that hold control tokens are encoded as plain text."""
        if not any(token in m.content for m in marks.messages for token in self._control):
            for name, message in zip(marks.names, marks.messages, strict=True):
                text = text.replace(name, message.content)
            return self._encode_control(text)
        ids: list[int] = []
        while text:
            places = [(text.find(name), i) for i, name in enumerate(marks.names) if name in text]
            if not places:
                ids += self._encode_control(text)
                break
            place, index = min(places)
            if place:
                ids += self._encode_control(text[:place])
            ids += self.encode_text(marks.messages[index].content)
            text = text[place + len(marks.names[index]) :]
        return ids

    def _encode_control(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(_utf8(text), add_special_tokens=False))

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; what looks like a control token stays text."""
        return list(self._tokenizer.encode(_utf8(text), add_special_tokens=False, split_special_tokens=True))

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


class _Marks:
    """A stand-in for each message's content, so that a rendering shows where content is and where template is."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = list(messages)
        salt = secrets.token_hex(8)
        self.names = [f"\ue000{salt}x{i}\ue001" for i in range(len(messages))]

    def render(self, template: ChatTemplate, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        marked = [
            Message(role=m.role, content=name, tool_calls=m.tool_calls, tool_call_id=m.tool_call_id, name=m.name)
            for m, name in zip(messages, self.names, strict=False)
        ]
        return template.render(marked, generation_prompt=generation_prompt)


def _utf8(text: str) -> str:
    """Lone surrogates cannot be encoded; they become the replacement character."""
    return text.encode("utf-8", "replace").decode("utf-8") if any("\ud800" <= c <= "\udfff" for c in text) else text
