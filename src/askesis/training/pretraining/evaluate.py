"""How well a policy answers held-out questions of each family: directly, by steps, and left to itself.

Shapes: B questions, T positions, V vocabulary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import reasoning_gym
import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerFast

from askesis.environments.reasoning.extract import extract_answer
from askesis.environments.reasoning.levels import load_levels
from askesis.environments.reasoning.scorers import judge, screened
from askesis.streams import seed_of
from askesis.training.pretraining.data import items

__all__ = ["FamilyScore", "evaluate", "sample", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyScore:
    """Shares of held-out questions answered right (the family's scorer gives 1.0), and what the replies look like.

    ``direct`` and ``think`` force the first token and are greedy; ``sampled`` is temperature 1. ``constant`` is what
    the best single answer, chosen with hindsight, would get. ``think_tokens`` is the mean length of a reply by steps.
    """

    family: str
    items: int
    constant: float
    direct: float
    think: float
    greedy: float
    sampled: float
    think_share: float
    think_tokens: float
    prompt_tokens: float

    def as_dict(self) -> dict[str, str | int | float]:
        """Plain values, rounded for a table."""
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}


@torch.no_grad()
def sample(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    end: int,
    max_new_tokens: int,
    rng: torch.Generator | None = None,
) -> list[list[int]]:
    """Continue each prompt up to ``end`` (not included): greedy without ``rng``, else at temperature 1."""
    width = max(len(prompt) for prompt in prompts)
    token_BT = torch.tensor([[end] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    seen_BT = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    cache, step_BT = DynamicCache(config=model.config), token_BT
    position_BT = (seen_BT.cumsum(-1) - 1).clamp(min=0)
    written: list[torch.Tensor] = []
    ended_B = torch.zeros(len(prompts), dtype=torch.bool)
    for _ in range(max_new_tokens):
        logits_BV = model(
            input_ids=step_BT,
            attention_mask=seen_BT,
            position_ids=position_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        if rng is None:
            next_B = logits_BV.argmax(-1)
        else:
            next_B = torch.multinomial(logits_BV.softmax(-1), 1, generator=rng)[:, 0]
        written.append(next_B)
        ended_B |= next_B == end
        if bool(ended_B.all()):
            break
        step_BT, position_BT = next_B[:, None], position_BT[:, -1:] + 1
        seen_BT = torch.cat([seen_BT, torch.ones_like(step_BT)], dim=1)
    rows = torch.stack(written, dim=1).tolist()
    return [row[: row.index(end)] if end in row else row for row in rows]


def _is_right(dataset: Any, family: str, item: Mapping[str, Any], text: str) -> bool:
    answer = extract_answer(text)
    return answer is not None and screened(family, answer) is None and judge(dataset, family, answer, item) >= 1.0


def _replies(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: list[list[int]], limit: int, seed: int
) -> dict[str, list[list[int]]]:
    """Reply tokens for each way of answering; a forced first token counts as part of the reply."""
    rng = torch.Generator().manual_seed(seed)
    replies = {}
    for mode, first in {"direct": "<answer>", "think": "<think>", "greedy": "", "sampled": ""}.items():
        forced = tokenizer.encode(first, add_special_tokens=False)
        rows = sample(
            model,
            [prompt + forced for prompt in prompts],
            end=tokenizer.eos_token_id,
            max_new_tokens=limit,
            rng=rng if mode == "sampled" else None,
        )
        replies[mode] = [forced + row for row in rows]
    return replies


def _score_family(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    family: str,
    *,
    size: int,
    seed: int,
    max_new_tokens: int,
) -> FamilyScore:
    chosen = list(islice(items(family, "held_out", seed), size))
    dataset = reasoning_gym.create_dataset(family, size=1, seed=0, **load_levels()[family])
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": item["question"]}], add_generation_prompt=True, return_dict=False
        )
        for item in chosen
    ]
    replies = _replies(model, tokenizer, prompts, max_new_tokens, seed_of(seed, family, "sample"))
    right = {
        mode: sum(
            _is_right(dataset, family, item, text)
            for item, text in zip(chosen, tokenizer.batch_decode(rows), strict=True)
        )
        / size
        for mode, rows in replies.items()
    }
    think = tokenizer.convert_tokens_to_ids("<think>")
    return FamilyScore(
        family=family,
        items=size,
        constant=Counter(item["answer"] for item in chosen).most_common(1)[0][1] / size,
        **right,
        think_share=sum(row[:1] == [think] for row in replies["sampled"]) / size,
        think_tokens=sum(len(row) + 1 for row in replies["think"]) / size,
        prompt_tokens=sum(len(prompt) for prompt in prompts) / size,
    )


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    families: Iterable[str],
    *,
    size: int,
    seed: int,
    max_new_tokens: int,
) -> list[FamilyScore]:
    """Score ``size`` held-out questions of each family at level ``nano``. Deterministic for a seed."""
    return [
        _score_family(model, tokenizer, family, size=size, seed=seed, max_new_tokens=max_new_tokens)
        for family in families
    ]


def table(scores: Iterable[FamilyScore]) -> str:
    """The scores as plain text, one family a line; accuracies in per cent."""
    lines = [
        f"{'family':<24}{'constant':>9}{'direct':>8}{'think':>8}{'greedy':>8}{'T=1':>8}"
        f"{'thinks':>8}{'tokens':>8}{'prompt':>8}"
    ]
    for score in scores:
        shares = (score.constant, score.direct, score.think, score.greedy, score.sampled, score.think_share)
        first, *rest = (f"{100 * share:.1f}" for share in shares)
        lines.append(
            f"{score.family:<24}{first:>9}{''.join(f'{value:>8}' for value in rest)}"
            f"{score.think_tokens:>8.1f}{score.prompt_tokens:>8.1f}"
        )
    return "\n".join(lines)
