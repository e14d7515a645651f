"""The endless, seeded stream of demonstrations, and its packing into batches of fixed shape.

Shapes: B rows, T tokens a row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import reasoning_gym
import torch
from transformers import PreTrainedTokenizerFast

from askesis.environments.reasoning.levels import load_levels
from askesis.environments.reasoning.split import split_of
from askesis.environments.search.demonstrations import SearchDemonstrations
from askesis.errors import RecipeError, did_you_mean
from askesis.streams import generator, seed_of
from askesis.training.pretraining.demonstrations import FAMILIES, steps
from askesis.training.pretraining.dialogues import Message, dialogue
from askesis.training.pretraining.recipe import DataSection, SearchSection

__all__ = ["Batch", "Example", "demonstration_texts", "encode", "examples", "items", "pack", "reply"]

_ENDLESS = 2**31 - 1
_MAX_WAITING = 8
_MAX_LEFT_OUT = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One demonstration: token ids and, for each, its weight in the loss when it is predicted."""

    tokens: list[int]
    weights: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Packed demonstrations, each tensor [B, T].

    ``weights[b, t]`` belongs to predicting ``targets[b, t]``, the token after ``t``. ``segments`` numbers the
    demonstrations of a row from 1; 0 is padding. ``positions`` start at 0 in each demonstration.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    segments: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor

    def mask(self) -> torch.Tensor:
        """[B, 1, T, T]: true where token i may see token j, of the same demonstration and not after i."""
        same_BTT = self.segments[:, :, None] == self.segments[:, None, :]
        return torch.tril(same_BTT)[:, None]


def items(family: str, split: str, seed: int) -> Iterator[Mapping[str, Any]]:
    """Endless reasoning-gym items of a family at level ``nano`` whose question belongs to ``split``."""
    levels = load_levels()
    if family not in levels or family not in FAMILIES:
        raise RecipeError(
            "this family has no demonstrations",
            got=family,
            expected=sorted(set(levels) & set(FAMILIES)),
            next_step=did_you_mean(family, levels),
        )
    dataset = reasoning_gym.create_dataset(
        family, size=_ENDLESS, seed=seed_of(seed, family, split) % 2**30, **levels[family]
    )
    index = 0
    while True:
        item = dataset[index]
        index += 1
        if split_of(item["question"]) == split:
            yield item


def reply(family: str, item: Mapping[str, Any], *, think: bool) -> str | None:
    """The assistant's text for an item; None when thinking is asked for and the item has nothing to work out."""
    answer = f"<answer>{item['answer']}</answer>"
    if not think:
        return answer
    thought = steps(family, item)
    return None if thought is None else f"<think>{thought}</think>{answer}"


def encode(tokenizer: PreTrainedTokenizerFast, messages: list[Message], first_weight: float = 1.0) -> Example:
    """Token ids in the chat template's order; the assistant's tokens and their ``<|end|>`` carry the loss.

    Args:
        first_weight: loss weight of the first token that the assistant writes, the one that chooses the mode.
    """
    tokens: list[int] = []
    weights: list[float] = []
    pending = first_weight
    end = tokenizer.eos_token_id
    for message in messages:
        tokens.append(tokenizer.convert_tokens_to_ids(f"<|{message['role']}|>"))
        weights.append(0.0)
        text = [*tokenizer.encode(message["content"], add_special_tokens=False), end]
        tokens += text
        if message["role"] == "assistant":
            weights += [pending] + [1.0] * (len(text) - 1)
            pending = 1.0
        else:
            weights += [0.0] * len(text)
    return Example(tokens=tokens, weights=weights)


def examples(
    tokenizer: PreTrainedTokenizerFast, data: DataSection, search: SearchSection | None = None
) -> Iterator[Example]:
    """Endless demonstrations from the training split, a share of them searches.

    The mode, direct or by steps, is a coin toss that does not look at the question.
    """
    alone = _alone(tokenizer, data)
    if search is None or search.share == 0:
        yield from alone
        return
    rng = generator(data.seed, "pretrain", "search")
    shown = SearchDemonstrations(
        hops=tuple(search.hops),
        wrong_share=search.wrong_share,
        early_share=search.early_share,
        memory_share=search.memory_share,
        max_searches=search.max_searches,
        seed=data.seed,
    )
    while True:
        yield encode(tokenizer, shown.dialogue(rng)) if rng.random() < search.share else next(alone)


def _alone(tokenizer: PreTrainedTokenizerFast, data: DataSection) -> Iterator[Example]:
    """Demonstrations of the families, and the short dialogues."""
    rng = generator(data.seed, "pretrain", "mix")
    sources = {family: items(family, "train", data.seed) for family in data.families}
    names = list(data.families)
    shares = np.array([data.families[name] for name in names])
    edges = np.cumsum(shares / shares.sum())
    think_weight = data.think_share / data.think_items
    direct_weight = (1 - data.think_share) / (1 - data.think_items)
    while True:
        if rng.random() < data.dialogue_share:
            yield encode(tokenizer, dialogue(rng))
            continue
        family = names[min(int(np.searchsorted(edges, rng.random(), side="right")), len(names) - 1)]
        item = next(sources[family])
        think = bool(rng.random() < data.think_items)
        text = reply(family, item, think=think)
        if text is None:
            continue
        messages = [{"role": "user", "content": item["question"]}, {"role": "assistant", "content": text}]
        yield encode(tokenizer, messages, think_weight if think else direct_weight)


def demonstration_texts(data: DataSection) -> Iterator[str]:
    """What the tokenizer is trained on: questions, steps and dialogues of the training split."""
    for family in data.families:
        source = items(family, "train", seed_of(data.seed, "tokenizer"))
        for _ in range(data.tokenizer_items):
            item = next(source)
            yield item["question"]
            yield steps(family, item) or ""
            yield item["answer"]
    rng = generator(data.seed, "pretrain", "tokenizer")
    for _ in range(data.tokenizer_items):
        yield from (message["content"] for message in dialogue(rng))


def pack(stream: Iterator[Example], rows: int, row_tokens: int, pad: int) -> Iterator[Batch]:
    """Fill rows with whole demonstrations; those that fit nowhere wait and are the first of the next batch.

    A demonstration longer than a row is left out.

    Raises:
        RecipeError: a hundred demonstrations in a row were left out.
    """
    short = _that_fit(stream, row_tokens)
    waiting: list[Example] = []
    while True:
        filled: list[list[Example]] = [[] for _ in range(rows)]
        room = [row_tokens] * rows
        queue, waiting = waiting, []
        while len(waiting) < _MAX_WAITING:
            example = queue.pop(0) if queue else next(short)
            size = len(example.tokens)
            row = next((row for row in range(rows) if room[row] >= size), None)
            if row is None:
                waiting.append(example)
            else:
                filled[row].append(example)
                room[row] -= size
        yield _batch(filled, row_tokens, pad)


def _that_fit(stream: Iterator[Example], row_tokens: int) -> Iterator[Example]:
    left_out = 0
    for example in stream:
        if len(example.tokens) <= row_tokens:
            left_out = 0
            yield example
            continue
        left_out += 1
        if left_out == _MAX_LEFT_OUT:
            raise RecipeError(
                "demonstrations are longer than a row",
                where="training.row_tokens",
                got=row_tokens,
                expected=f"at least {len(example.tokens)}",
            )


def _batch(filled: list[list[Example]], row_tokens: int, pad: int) -> Batch:
    shape = (len(filled), row_tokens)
    token, position, target = (np.full(shape, fill, dtype=np.int64) for fill in (pad, 0, pad))
    segment = np.zeros(shape, dtype=np.int64)
    weight = np.zeros(shape, dtype=np.float32)
    for row, packed in enumerate(filled):
        start = 0
        for number, example in enumerate(packed, start=1):
            size = len(example.tokens)
            stop = start + size
            token[row, start:stop] = example.tokens
            position[row, start:stop] = np.arange(size)
            segment[row, start:stop] = number
            target[row, start : stop - 1] = example.tokens[1:]
            weight[row, start : stop - 1] = example.weights[1:]
            start = stop
    return Batch(
        tokens=torch.from_numpy(token),
        positions=torch.from_numpy(position),
        segments=torch.from_numpy(segment),
        targets=torch.from_numpy(target),
        weights=torch.from_numpy(weight),
    )
