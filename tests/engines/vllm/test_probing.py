"""Wrong weights show, and so do weights that are one update behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from askesis.engines.embedded import sample_batch
from askesis.engines.vllm.probing import Probe, check_sampling, judge, sampling_probe
from askesis.errors import EngineError
from askesis.policy.loading import Policy


def probe(*values: float) -> Probe:
    return Probe(sequences=((0,) * (len(values) + 1),), logprobs=values)


def test_worked_numbers() -> None:
    now, before = probe(-1.0, -2.0), probe(-1.1, -2.1)
    assert judge([-1.0, -2.002], now, before, limit=1e-2, where="r") == pytest.approx(1e-3)
    with pytest.raises(EngineError, match="before the last update"):  # 0 from the old, 0.1 from the new
        judge([-1.1, -2.1], now, before, limit=1.0, where="r")
    with pytest.raises(EngineError, match="not those of the weights"):
        judge([-3.0, -2.0], now, before, limit=0.1, where="r")
    # Noise of 0.5 nats hides a step of 0.1: nothing can be said, and nothing is.
    assert judge([-1.6, -1.6], now, before, limit=1.0, where="r") == pytest.approx(0.5)


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(EngineError, match="not those of the weights"):
        judge([float("nan"), -1.0], probe(-1.0, -1.0), None, limit=0.1, where="r")


def test_a_small_step_is_seen_in_full_precision(tiny: Policy) -> None:
    before = Probe.of(tiny, 256)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, tensor in tiny.trainable():
            tensor += 1e-5 * torch.randn(tensor.shape, generator=generator)
    now = Probe.of(tiny, 256)
    noise = np.random.default_rng(0).normal(0, 1e-7, len(now.logprobs))
    assert now.sequences == before.sequences and len(now.logprobs) == 4 * 23
    assert judge(now.logprobs + noise, now, before, limit=1e-3, where="r") < 1e-6
    with pytest.raises(EngineError, match="before the last update"):
        judge(before.logprobs + noise, now, before, limit=1e-3, where="r")


def test_sequences_fit_into_a_short_context(random_policy: Callable[..., Any]) -> None:
    policy = random_policy("Qwen3")
    assert {len(s) for s in Probe.of(policy, 8).sequences} == {7}


def test_logprobs_of_another_distribution_show(tiny: Policy) -> None:
    asked = sampling_probe(Probe.of(tiny, 256))
    [done] = sample_batch(tiny, [asked])
    check_sampling(tiny, asked, done, limit=1e-3, where="r")
    ids = torch.tensor([[*asked.prefix, *done.tokens]])
    with torch.no_grad():
        logp = tiny.model(input_ids=ids).logits[0, len(asked.prefix) - 1 : -1].log_softmax(-1)
    raw = logp.gather(-1, torch.tensor(done.tokens)[:, None])[:, 0].tolist()
    from dataclasses import replace

    with pytest.raises(EngineError, match="model's own log-probabilities") as caught:
        check_sampling(tiny, asked, replace(done, logprobs=tuple(raw)), limit=1e-3, where="r")
    assert "--logprobs-mode processed_logprobs" in str(caught.value)
    with pytest.raises(EngineError, match="does not sample from the model"):
        check_sampling(tiny, asked, replace(done, logprobs=(-9.0,) * len(raw)), limit=1e-3, where="r")
