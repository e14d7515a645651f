from __future__ import annotations

import itertools

import pytest
import torch
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from askesis.training.pretraining.data import demonstration_texts, encode, items, reply
from askesis.training.pretraining.evaluate import FamilyScore, evaluate, sample, table
from askesis.training.pretraining.recipe import DataSection
from askesis.training.pretraining.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer(demonstration_texts(DataSection(families={"chain_sum": 1.0}, tokenizer_items=30)), 400, 512)


@pytest.fixture(scope="module")
def model() -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
        max_position_embeddings=256,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Qwen3ForCausalLM(config).eval()


def memorise(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, size: int, seed: int) -> None:
    """Train on the very questions that are asked below: a thinker that answers right, and never directly."""
    made = []
    for item in itertools.islice(items("chain_sum", "held_out", seed), size):
        text = reply("chain_sum", item, think=True)
        assert text is not None
        made.append(
            encode(tokenizer, [{"role": "user", "content": item["question"]}, {"role": "assistant", "content": text}])
        )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = torch.stack([model(x, labels=x).loss for x in (torch.tensor([one.tokens]) for one in made)]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_greedy_sampling_equals_stepping_without_cache_or_padding(model: Qwen3ForCausalLM) -> None:
    prompts = [[5, 6, 7, 8, 9], [10, 11]]
    rows = sample(model, prompts, end=1, max_new_tokens=7)
    for prompt, row in zip(prompts, rows, strict=True):
        tokens = list(prompt)
        while len(tokens) < len(prompt) + 7:
            following = int(model(torch.tensor([tokens])).logits[0, -1].argmax())
            if following == 1:
                break
            tokens.append(following)
        assert row == tokens[len(prompt) :]


def test_sampling_stops_at_the_end_token(model: Qwen3ForCausalLM) -> None:
    first = sample(model, [[5, 6]], end=399, max_new_tokens=3)[0]
    assert sample(model, [[5, 6]], end=first[0], max_new_tokens=3) == [[]]


def test_sampling_follows_its_generator(model: Qwen3ForCausalLM) -> None:
    def draw(seed: int) -> list[list[int]]:
        return sample(model, [[5, 6, 7]] * 4, end=1, max_new_tokens=8, rng=torch.Generator().manual_seed(seed))

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert len({tuple(row) for row in draw(0)}) > 1


@pytest.mark.opt_in
def test_scores_tell_a_thinker_from_a_guesser(model: Qwen3ForCausalLM) -> None:
    def score() -> FamilyScore:
        return evaluate(model, TOKENIZER, ["chain_sum"], size=3, seed=7, max_new_tokens=60)[0]

    before = score()
    assert (before.think, before.direct, before.greedy) == (0.0, 0.0, 0.0)
    memorise(model, TOKENIZER, 3, 7)
    after = score()
    assert after == score()
    assert (after.think, after.greedy) == (1.0, 1.0)
    assert after.think_share > 0.5
    assert after.constant == pytest.approx(1 / 3)
    assert 20 < after.think_tokens < 60
    assert f"{100 * after.direct:.1f}" in table([after]).splitlines()[1]


def test_table_by_hand() -> None:
    score = FamilyScore(
        family="gcd",
        items=200,
        constant=0.285,
        direct=0.3,
        think=0.915,
        greedy=0.3,
        sampled=0.44,
        think_share=0.25,
        think_tokens=29.04,
        prompt_tokens=30.0,
    )
    assert " ".join(table([score]).splitlines()[1].split()) == "gcd 28.5 30.0 91.5 30.0 44.0 25.0 29.0 30.0"
    assert score.as_dict()["think_tokens"] == 29.04
