"""Sampling with ``generate`` of transformers, in our own environment: the same prompt repeated for each answer."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, open_policy
from benchmarks.workload import Grpo

__all__ = ["serve"]


def serve(channel: Channel) -> None:
    """Rounds of one batch each; the request names the batch."""
    policy = open_policy(channel.job)

    @torch.inference_mode()
    def sample(request: dict[str, Any]) -> dict[str, Any]:
        load = Grpo.of(request["load"])
        prompts = [policy.template.encode_text(text) for text in load.texts(request["round"])]
        ids = torch.tensor([prompt for prompt in prompts for _ in range(load.group)])
        out = policy.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            max_new_tokens=load.new_tokens,
            eos_token_id=None,
            pad_token_id=policy.tokenizer.pad_token_id,
        )
        return {"tokens": (out.shape[1] - load.prompt_tokens) * len(out)}

    # The model's own end token would stop rows early; what no configuration names cannot.
    policy.model.generation_config.eos_token_id = None
    answer(channel, sample)
