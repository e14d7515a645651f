"""Pretraining of the built-in policy: from a recipe to a model folder that transformers loads."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from askesis.errors import PolicyError
from askesis.policy.loading import load_policy
from askesis.streams import seed_of
from askesis.training.pretraining.data import Batch, demonstration_texts, examples, pack
from askesis.training.pretraining.evaluate import FamilyScore, evaluate
from askesis.training.pretraining.recipe import ModelSection, PretrainRecipe, TrainingSection
from askesis.training.pretraining.search_scores import SearchScore, evaluate_searching
from askesis.training.pretraining.tokenizer import train_tokenizer

__all__ = ["PretrainResult", "Progress", "learning_rate", "pretrain", "recipe_hash"]

_PROGRESS_STEPS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands. ``loss`` is the mean over the steps since the last report, in nats per weighted token."""

    step: int
    tokens: int
    total_tokens: int
    loss: float
    lr: float
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainResult:
    """What a finished run wrote to ``folder``."""

    folder: Path
    tokens: int
    wall_s: float
    parameters: int
    scores: tuple[FamilyScore, ...]
    searching: tuple[SearchScore, ...]
    """Empty when no searches were shown."""


def recipe_hash(recipe: PretrainRecipe) -> str:
    """SHA-256 of the recipe as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(_plain(recipe), sort_keys=True).encode()).hexdigest()


def _plain(recipe: PretrainRecipe) -> dict[str, Any]:
    """The recipe without what it does not use: the hash of ``nano`` is older than these keys."""
    plain: dict[str, Any] = recipe.model_dump(mode="json")
    if recipe.search.share == 0:
        del plain["search"]
    if recipe.model.policy is None:
        del plain["model"]["policy"]
    else:
        plain["model"] = {"policy": recipe.model.policy}
    return plain


def learning_rate(training: TrainingSection, tokens: int) -> float:
    """Linear warm-up to ``lr_peak``, then a cosine to ``lr_end`` at the last token."""
    if tokens < training.warm_up_tokens:
        return training.lr_peak * (tokens + 1) / training.warm_up_tokens
    done = (tokens - training.warm_up_tokens) / max(1, training.tokens - training.warm_up_tokens)
    return training.lr_end + 0.5 * (training.lr_peak - training.lr_end) * (1 + math.cos(math.pi * min(1.0, done)))


def pretrain(
    recipe: PretrainRecipe, out: Path, on_progress: Callable[[Progress], None] = lambda progress: None
) -> PretrainResult:
    """Train a policy, from nothing or on from another one, and write it to ``out`` with its provenance, ``nano.json``.

    The same recipe, number of threads and library versions give the same weights. While it runs, ``out`` holds the
    latest checkpoint, a whole model folder without ``nano.json``; it is swapped in only when it is complete.

    Args:
        on_progress: called every 50 steps and after the last.

    Raises:
        RecipeError: a family without demonstrations, or rows too short for all of them.
        PolicyError: the policy to go on from cannot be loaded, or is no Qwen3.
    """
    started = time.monotonic()
    training = recipe.training
    threads_before = torch.get_num_threads()
    torch.set_num_threads(training.threads)
    try:
        model, tokenizer = _start(recipe)
        tokens = _train(model, tokenizer, recipe, out, started, on_progress)
        _save(model, tokenizer, out)
        model.eval()
        scores = tuple(evaluate(model, tokenizer, recipe.data.families, **_evaluation(recipe)))
        searching = _searching(recipe, out)
    finally:
        torch.set_num_threads(threads_before)
    result = PretrainResult(
        folder=out,
        tokens=tokens,
        wall_s=round(time.monotonic() - started, 1),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        scores=scores,
        searching=searching,
    )
    _save(model, tokenizer, out, provenance=lambda folder: _provenance(recipe, result, folder))
    return result


def _evaluation(recipe: PretrainRecipe) -> dict[str, int]:
    section = recipe.evaluation
    return {"size": section.items, "seed": section.seed, "max_new_tokens": section.max_new_tokens}


def _searching(recipe: PretrainRecipe, folder: Path) -> tuple[SearchScore, ...]:
    section = recipe.search
    if section.share == 0:
        return ()
    seed = recipe.evaluation.seed
    return tuple(evaluate_searching(folder, section.evaluated_hops, tasks=section.evaluated_tasks, seed=seed))


def _start(recipe: PretrainRecipe) -> tuple[Qwen3ForCausalLM, PreTrainedTokenizerFast]:
    """The model and the tokenizer that training begins with."""
    name = recipe.model.policy
    if name is None:
        tokenizer = train_tokenizer(
            demonstration_texts(recipe.data), recipe.model.vocab_size, recipe.model.max_positions
        )
        return _new_model(recipe.model, tokenizer, seed_of(recipe.training.seed, "pretrain", "weights")), tokenizer
    policy = load_policy(name, device="cpu")
    if not isinstance(policy.model, Qwen3ForCausalLM):
        raise PolicyError(
            "pretraining goes on only from policies of nano's kind",
            where="model.policy",
            got=type(policy.model).__name__,
            expected="Qwen3ForCausalLM",
        )
    return policy.model.train(), policy.tokenizer


def _new_model(shape: ModelSection, tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.max_positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    # transformers draws initial weights from the global generator; the fork leaves the caller's untouched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True, temperature=1.0
    )
    return model


def _train(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    recipe: PretrainRecipe,
    out: Path,
    started: float,
    on_progress: Callable[[Progress], None],
) -> int:
    """Run the optimiser until the recipe's tokens are spent; return the tokens seen (padding not counted)."""
    training = recipe.training
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.lr_peak, betas=training.betas, weight_decay=training.weight_decay, fused=True
    )
    body = torch.compile(model.model) if training.compile else model.model
    batches = pack(
        examples(tokenizer, recipe.data, recipe.search), training.rows, training.row_tokens, tokenizer.pad_token_id
    )
    step = tokens = 0
    losses: list[float] = []
    saved = time.monotonic()
    while tokens < training.tokens:
        batch, lr = next(batches), learning_rate(training, tokens)
        losses.append(_step(model, body, batch, optimizer, lr, training.clip))
        step += 1
        tokens += int((batch.segments > 0).sum())
        now = time.monotonic()
        if step % _PROGRESS_STEPS == 0 or tokens >= training.tokens:
            loss, elapsed = sum(losses) / len(losses), now - started
            on_progress(
                Progress(step=step, tokens=tokens, total_tokens=training.tokens, loss=loss, lr=lr, elapsed_s=elapsed)
            )
            losses.clear()
        if now - saved > 60 * training.checkpoint_minutes:
            _save(model, tokenizer, out)
            saved = now
    return tokens


def _step(
    model: Qwen3ForCausalLM,
    body: Callable[..., Any],
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    lr: float,
    clip: float,
) -> float:
    """One optimiser step; return the loss before it."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    loss = _loss(model, body, batch)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    return float(loss.detach())


def _loss(model: Qwen3ForCausalLM, body: Callable[..., Any], batch: Batch) -> torch.Tensor:
    """Weighted mean cross-entropy in nats. ``body`` is ``model.model``, perhaps compiled.

    Only positions with a weight go through the vocabulary.
    """
    hidden_BTD = body(
        input_ids=batch.tokens,
        position_ids=batch.positions,
        attention_mask={"full_attention": batch.mask()},
        use_cache=False,
    ).last_hidden_state
    chosen_BT = batch.weights > 0
    logits_NV = model.lm_head(hidden_BTD[chosen_BT])
    loss_N = torch.nn.functional.cross_entropy(logits_NV, batch.targets[chosen_BT], reduction="none")
    weight_N = batch.weights[chosen_BT]
    return (loss_N * weight_N).sum() / weight_N.sum()


def _save(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    out: Path,
    provenance: Callable[[Path], dict[str, object]] | None = None,
) -> None:
    """Write the folder beside ``out`` and swap it in, so that a reader never meets half a model."""
    fresh, old = out.with_name(out.name + ".new"), out.with_name(out.name + ".old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(parents=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    (fresh / "model.safetensors").chmod(0o644)  # safetensors makes it private, which a shipped file must not be
    if provenance is not None:
        text = json.dumps(provenance(fresh), indent=2, ensure_ascii=False)
        (fresh / "nano.json").write_text(text + "\n", encoding="utf-8")
    if out.exists():
        out.replace(old)
    fresh.replace(out)
    shutil.rmtree(old, ignore_errors=True)


def _provenance(recipe: PretrainRecipe, result: PretrainResult, folder: Path) -> dict[str, object]:
    names = ("torch", "transformers", "tokenizers", "reasoning-gym", "numpy")
    return {
        "schema_version": 1,
        "recipe_sha256": recipe_hash(recipe),
        "weights_sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "data_seed": recipe.data.seed,
        "tokens": result.tokens,
        "wall_s": result.wall_s,
        "parameters": result.parameters,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in names},
        "scores": [score.as_dict() for score in result.scores],
        **({"searching": [score.as_dict() for score in result.searching]} if result.searching else {}),
        "recipe": _plain(recipe),
    }
