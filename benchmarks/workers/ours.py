"""What our workers share: the policy, the learner and a loop over requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from askesis.algorithms import build
from askesis.learners import GradientLearner, LearnerSettings
from askesis.policy.loading import Policy, load_policy
from benchmarks.workers.channel import Channel, versions

__all__ = ["answer", "make_learner", "open_policy"]


def open_policy(job: dict[str, Any]) -> Policy:
    """The job's model on its number of threads."""
    torch.set_num_threads(job["threads"])
    return load_policy(job["model"], device="cpu")


def make_learner(policy: Policy, *, packed: bool = True, micro_batch_tokens: int = 2048) -> GradientLearner:
    """GRPO without a KL penalty, as the peers are set up."""
    settings = LearnerSettings(
        lr=1e-4, micro_batch_tokens=micro_batch_tokens, packed=packed, threads=torch.get_num_threads()
    )
    return GradientLearner(policy, build("grpo", {"kl_beta": 0.0}), settings)


def answer(channel: Channel, work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Serve requests until there are none; ``work`` returns what else is to be said of a round."""
    channel.ready(versions=versions("torch", "transformers"))
    while (request := channel.next()) is not None:
        channel.finish(**work(request))
