from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch

from askesis.environments.reasoning.split import split_of
from askesis.errors import RecipeError
from askesis.training.pretraining.data import Example, demonstration_texts, encode, examples, items, pack, reply
from askesis.training.pretraining.recipe import DataSection, SearchSection
from askesis.training.pretraining.tokenizer import train_tokenizer

DATA = DataSection(seed=5, families={"chain_sum": 2.0, "gcd": 1.0}, tokenizer_items=30)
TOKENIZER = train_tokenizer(demonstration_texts(DATA), 500, 512)


def example(*tokens: int) -> Example:
    return Example(tokens=list(tokens), weights=[0.0, *[1.0] * (len(tokens) - 1)])


def test_items_belong_to_their_split_whatever_the_seed() -> None:
    for split in ("train", "held_out"):
        for seed in (0, 1):
            assert {split_of(item["question"]) for item in itertools.islice(items("gcd", split, seed), 50)} == {split}


def test_no_held_out_question_is_demonstrated() -> None:
    held_out = {item["question"] for item in itertools.islice(items("gcd", "held_out", 1), 2000)}
    user, end = TOKENIZER.convert_tokens_to_ids("<|user|>"), TOKENIZER.eos_token_id
    demonstrated = set()
    for made in itertools.islice(examples(TOKENIZER, DATA), 500):
        if made.tokens[0] == user:
            demonstrated.add(TOKENIZER.decode(made.tokens[1 : made.tokens.index(end)]))
    assert len(demonstrated) > 400
    assert not demonstrated & held_out
    assert not set(demonstration_texts(DATA)) & held_out


def test_an_unknown_family_names_a_close_one() -> None:
    with pytest.raises(RecipeError, match="chain_sum"):
        next(items("chain_sums", "train", 0))


def test_replies() -> None:
    item = {"metadata": {"expression": "1 + 2"}, "answer": "3"}
    assert reply("chain_sum", item, think=False) == "<answer>3</answer>"
    assert reply("chain_sum", item, think=True) == "<think>1 + 2 = 3</think><answer>3</answer>"
    nothing = {"metadata": {"variable": "o", "equation": "0 = 0"}, "answer": "4"}
    assert reply("simple_equations", nothing, think=True) is None


def test_the_assistants_tokens_carry_the_loss_and_the_first_its_own_weight() -> None:
    messages = [
        {"role": "user", "content": "12"},
        {"role": "assistant", "content": "34"},
        {"role": "tool", "content": "5"},
        {"role": "assistant", "content": "6"},
    ]
    made = encode(TOKENIZER, messages, first_weight=0.25)
    assert (
        TOKENIZER.decode(made.tokens) == "<|user|>12<|end|><|assistant|>34<|end|><|tool|>5<|end|><|assistant|>6<|end|>"
    )
    #                      user 1 2 end  asst  3     4   end  tool 5  end asst  6   end
    assert made.weights == [0, 0, 0, 0, 0, 0.25, 1.0, 1.0, 0, 0, 0, 0, 1.0, 1.0]


def test_tokens_are_those_of_the_chat_template() -> None:
    messages = [{"role": "user", "content": "1 + 2"}, {"role": "assistant", "content": "<answer>3</answer>"}]
    assert encode(TOKENIZER, messages).tokens == TOKENIZER.apply_chat_template(messages, return_dict=False)


def test_first_tokens_weigh_as_if_nano_thought_as_often_as_asked() -> None:
    data = DATA.model_copy(update={"dialogue_share": 0.0, "think_share": 0.2, "think_items": 0.6})
    think = TOKENIZER.convert_tokens_to_ids("<think>")
    assistant = TOKENIZER.convert_tokens_to_ids("<|assistant|>")
    weight = {True: 0.0, False: 0.0}
    for made in itertools.islice(examples(TOKENIZER, data), 1500):
        first = made.tokens.index(assistant) + 1
        weight[made.tokens[first] == think] += made.weights[first]
    assert weight[True] / sum(weight.values()) == pytest.approx(0.2, abs=0.02)


def test_the_same_seed_gives_the_same_stream_and_another_a_different_one() -> None:
    def first(seed: int) -> list[Example]:
        return list(itertools.islice(examples(TOKENIZER, DATA.model_copy(update={"seed": seed})), 20))

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_searches_have_their_share_and_leave_the_rest_as_it_was() -> None:
    search = SearchSection(share=0.5)
    mixed = list(itertools.islice(examples(TOKENIZER, DATA, search), 60))
    alone = list(itertools.islice(examples(TOKENIZER, DATA), 60))
    system = TOKENIZER.convert_tokens_to_ids("<|system|>")
    rest = [made for made in mixed if made in alone]
    assert rest == alone[: len(rest)] and 18 < len(rest) < 42
    assert all(made.tokens[0] == system for made in mixed if made not in alone)
    assert list(itertools.islice(examples(TOKENIZER, DATA, SearchSection()), 60)) == alone


def test_packing_by_hand() -> None:
    stream = iter([example(1, 2, 3), example(4, 5), example(6, 7), *itertools.repeat(example(8, 9, 8, 9, 8), 20)])
    batch = next(pack(stream, rows=2, row_tokens=6, pad=0))
    assert batch.tokens.tolist() == [[1, 2, 3, 4, 5, 0], [6, 7, 0, 0, 0, 0]]
    assert batch.targets.tolist() == [[2, 3, 0, 5, 0, 0], [7, 0, 0, 0, 0, 0]]
    assert batch.weights.tolist() == [[1, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 0, 0, 0, 0]]
    assert batch.segments.tolist() == [[1, 1, 1, 2, 2, 0], [1, 1, 0, 0, 0, 0]]
    mask = batch.mask()
    assert mask.shape == (2, 1, 6, 6)
    assert mask[0, 0, 4].tolist() == [False, False, False, True, True, False]
    assert mask[0, 0, 1].tolist() == [True, True, False, False, False, False]
    assert bool(torch.diagonal(mask, dim1=-2, dim2=-1).all())


def test_packing_loses_and_repeats_nothing() -> None:
    made = [example(*range(start, start + 2 + start % 4)) for start in range(1, 200)]

    def endless() -> Iterator[Example]:
        yield from made
        yield from itertools.repeat(example(999, 999))

    seen = []
    for batch in itertools.islice(pack(endless(), rows=3, row_tokens=7, pad=0), 60):
        for row in range(3):
            for number in range(1, int(batch.segments[row].max()) + 1):
                seen.append(batch.tokens[row][batch.segments[row] == number].tolist())
    assert sorted(tokens for tokens in seen if tokens[0] != 999) == [one.tokens for one in made]


def test_rows_too_short_for_everything_are_an_error() -> None:
    with pytest.raises(RecipeError, match="longer than a row"):
        next(pack(itertools.repeat(example(1, 2, 3, 4)), rows=2, row_tokens=3, pad=0))
