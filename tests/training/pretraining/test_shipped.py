"""The model folder that ships with the package."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config

from askesis.training.pretraining.evaluate import evaluate
from askesis.training.pretraining.loop import recipe_hash
from askesis.training.pretraining.recipe import load_pretrain_recipe

FOLDER = Path(str(files("askesis") / "policy" / "nano"))
RECIPE = Path(__file__).parents[3] / "recipes" / "nano.toml"


def test_the_folder_is_small_and_is_what_its_record_says() -> None:
    record = json.loads((FOLDER / "nano.json").read_text())
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8_000_000
    assert hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest() == record["weights_sha256"]
    assert record["recipe_sha256"] == recipe_hash(load_pretrain_recipe(RECIPE))
    assert len(record["scores"]) >= 10


def test_it_is_a_plain_float32_qwen3_with_its_end_token() -> None:
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
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
