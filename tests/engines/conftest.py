"""The oracle: one plain forward pass over the whole sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from askesis.policy.loading import Policy


@pytest.fixture(scope="session")
def oracle() -> Callable[..., list[float]]:
    """Log-probabilities of ``tokens`` after ``prefix`` by the model itself."""

    @torch.no_grad()
    def logprobs(policy: Policy, prefix: tuple[int, ...], tokens: tuple[int, ...], temperature: float) -> list[float]:
        model: Any = policy.model
        logits = model(input_ids=torch.tensor([[*prefix, *tokens]]), use_cache=False).logits[0, len(prefix) - 1 : -1]
        scores = (logits.float() / temperature).log_softmax(-1)
        return scores.gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()

    return logprobs
