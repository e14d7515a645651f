"""The model folder that ships with the package."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from askesis.policy.folder import BUILT_IN
from askesis.training.pretraining.evaluate import evaluate
from askesis.training.pretraining.loop import recipe_hash
from askesis.training.pretraining.recipe import load_pretrain_recipe
from askesis.training.pretraining.search_scores import evaluate_searching

POLICIES = Path(str(files("askesis") / "policy"))
FOLDER = POLICIES / "nano"
RECIPES = Path(__file__).parents[3] / "recipes"

each = pytest.mark.parametrize("name", BUILT_IN)


@each
def test_the_folder_is_small_and_is_what_its_record_says(name: str) -> None:
    folder = POLICIES / name
    record = json.loads((folder / "nano.json").read_text())
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8_000_000
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == record["weights_sha256"]
    assert record["recipe_sha256"] == recipe_hash(load_pretrain_recipe(RECIPES / f"{name.replace('-', '_')}.toml"))
    assert len(record["scores"]) >= 10


@each
def test_it_is_a_plain_float32_qwen3_with_its_end_token(name: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(POLICIES / name)
    tokenizer = AutoTokenizer.from_pretrained(POLICIES / name)
    assert type(model.config) is Qwen3Config
    assert model.dtype == torch.float32
    assert len(tokenizer) == model.config.vocab_size
    assert model.config.eos_token_id == model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_it_adds_better_by_steps_than_at_once_and_seldom_takes_them() -> None:
    """The record's shape on a few questions: what reinforcement learning has to find out."""
    model = AutoModelForCausalLM.from_pretrained(FOLDER).eval()
    (score,) = evaluate(model, AutoTokenizer.from_pretrained(FOLDER), ["chain_sum"], size=60, seed=2, max_new_tokens=60)
    assert score.think > score.direct + 0.3
    assert score.greedy == score.direct
    assert 0.08 < score.think_share < 0.45


@pytest.mark.skipif("nano-search" not in BUILT_IN, reason="its weights are not in this copy")
def test_nano_search_looks_two_facts_up_and_goes_wrong_often_enough_to_learn() -> None:
    """The record's shape on a few questions: it knows both contexts, and sampling it leaves room for training."""
    scores = {(s.context, s.hops): s for s in evaluate_searching(POLICIES / "nano-search", [2], tasks=24, seed=2)}
    for context in ("full", "compact_memory"):
        assert scores[context, 2].greedy > 0.7
        assert 0.15 < scores[context, 2].sampled < 0.75
