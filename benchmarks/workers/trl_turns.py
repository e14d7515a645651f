"""TRL's multi-turn path: a ``rollout_func`` hands the trainer finished conversations with a mask, it trains on them.

Each conversation is one sequence. The clock covers TRL's training step, with what it does to prepare a batch; the
sampling is not in it, as it is not in ours.
"""

from __future__ import annotations

import math
from typing import Any

from benchmarks.workers.channel import Channel
from benchmarks.workers.trl import train
from benchmarks.workload import Turns

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Rounds of one update each."""
    from transformers import AutoTokenizer

    job = channel.job
    load, vocabulary = Turns.of(job["load"]), job["vocabulary"]
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    batches = [_batch(load, number, vocabulary, tokenizer) for number in range(job["rounds"])]
    waiting = iter(batches)

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        return next(waiting)

    texts = [f"{number}" for number in range(job["rounds"]) for _ in range(load.prompts)]
    tokens = load.prompts * load.members * load.turns * load.action
    longest = load.per_sequence // (load.prompts * load.members)
    train(channel, texts, load.prompts, load.members, longest, tokens, rollout)


def _batch(load: Turns, number: int, vocabulary: int, tokenizer: Any) -> dict[str, Any]:
    """Prompt, everything after it, and which of that was sampled (``env_mask``), of each conversation."""
    prompts, answers, masks = [], [], []
    for said in load.conversations(number, vocabulary):
        prompts.append(tokenizer.encode(said[0][0]))
        ids, mask = list(said[0][1]), [1] * load.action
        for text, sampled in said[1:]:
            read = tokenizer.encode(text)
            ids += [*read, *sampled]
            mask += [0] * len(read) + [1] * len(sampled)
        answers.append(ids)
        masks.append(mask)
    logprobs = [[-math.log(vocabulary)] * len(ids) for ids in answers]
    return {"prompt_ids": prompts, "completion_ids": answers, "logprobs": logprobs, "env_mask": masks}
