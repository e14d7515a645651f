"""One-sample-per-call training: each call of a conversation is a sequence of its own with its whole context.

That is how verl-agent trains, and SkyRL where a harness rewrites contexts. It is written here on the plain model, as
well as the layout allows: calls of equal length share a micro-batch, so nothing is padded; the unembedding sees only
the sampled positions; no metrics. Shape suffixes: B calls, T positions, A sampled tokens of a call, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.workers.channel import Channel
from benchmarks.workers.ours import answer, open_policy
from benchmarks.workload import Turns, even_share

__all__ = ["backward", "serve"]


def serve(channel: Channel) -> None:
    """Rounds of one update each; the job names the conversations, or the request does."""
    job = channel.job
    policy = open_policy(job)
    model: Any = policy.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0)

    def update(request: dict[str, Any]) -> dict[str, Any]:
        load = Turns.of(request.get("load") or job["load"])
        said = load.conversations(request["round"], model.config.vocab_size)
        encoded = [[(policy.template.encode_text(text), ids) for text, ids in one] for one in said]
        channel.start()
        optimizer.zero_grad(set_to_none=True)
        backward(model, encoded, load, job["micro_batch_tokens"])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return {"tokens": len(said) * load.turns * load.action}

    answer(channel, update)


def backward(
    model: Any, conversations: Sequence[Sequence[tuple[list[int], list[int]]]], load: Turns, max_tokens: int
) -> None:
    """Add the gradient of the clipped GRPO loss: the mean over all calls of the mean over their sampled tokens."""
    whole = torch.tensor([[i for read, sampled in said for i in [*read, *sampled]] for said in conversations])
    advantage_B = _advantages(conversations, load.members)
    calls = len(conversations) * load.turns
    for turn in range(load.turns):
        length = load.first + load.action + turn * (load.observation + load.action)
        size = max(1, max_tokens // length)
        for start in range(0, len(whole), size):
            ids_BT, advantage = whole[start : start + size, :length], advantage_B[start : start + size]
            _loss(model, ids_BT, advantage, load.action).sum().div(calls).backward()


def _loss(model: Any, ids_BT: torch.Tensor, advantage_B: torch.Tensor, action: int) -> torch.Tensor:
    """Mean clipped loss of each call [B]."""
    logits_BAV = model(input_ids=ids_BT, use_cache=False, logits_to_keep=action + 1).logits[:, :-1]
    logp_BA = logits_BAV.float().log_softmax(-1).gather(-1, ids_BT[:, -action:, None])[..., 0]
    ratio_BA = (logp_BA + math.log(logits_BAV.shape[-1])).exp()
    clipped_BA = ratio_BA.clamp(0.8, 1.2)
    return -torch.minimum(ratio_BA * advantage_B[:, None], clipped_BA * advantage_B[:, None]).mean(-1)


def _advantages(conversations: Sequence[Sequence[tuple[list[int], list[int]]]], members: int) -> torch.Tensor:
    rewards = [even_share([i for _, sampled in said for i in sampled]) for said in conversations]
    reward_GM = torch.tensor(rewards).view(-1, members)
    return ((reward_GM - reward_GM.mean(1, True)) / (reward_GM.std(1, keepdim=True) + 1e-4)).flatten()
