"""Which decoder an engine may use: the fastest that agrees with the model itself."""

from __future__ import annotations

import logging
from typing import Any

import torch

from askesis.engines.decoder import Decoder, FusedDecoder
from askesis.engines.modules import ModuleDecoder
from askesis.engines.protocol import Completion, Request, Sampling
from askesis.engines.scheduler import Call, Scheduler
from askesis.engines.variants import VariantDecoder
from askesis.errors import EngineError
from askesis.policy.loading import Policy
from askesis.policy.weights import Unsupported
from askesis.streams import generator

__all__ = ["disagreement", "open_decoder", "open_variants"]

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}
_LOW_PRECISION_TOLERANCE = 0.1
_PROBE_LENGTHS = (5, 9)
_PROBE_ANSWER = 6


def open_decoder(policy: Policy) -> tuple[Decoder, str]:
    """The fastest decoder that agrees with the model, and a line that says which it is and why.

    Raises:
        EngineError: not even the model's own modules agree with it over the engine's keys and values.
    """
    try:
        fused = FusedDecoder(policy.model)
        gap = disagreement(policy, fused)
        if gap <= _tolerance(policy):
            return fused, "fused"
        reason = f"the fused decoder differs by {gap:.1e} nats"
    except Unsupported as error:
        reason = str(error)
    modules = ModuleDecoder(policy.model)
    gap = disagreement(policy, modules)
    if gap > _tolerance(policy):
        raise EngineError(
            "this model cannot be sampled by the embedded engine",
            where=policy.name,
            got=f"log-probabilities that differ from the model's own by {gap:.1e} nats",
            expected=f"at most {_tolerance(policy):.0e}",
            next_step="report this with the model's name",
        )
    logging.getLogger(__name__).warning("%s is sampled by the modules of transformers: %s", policy.name, reason)
    return modules, f"transformers: {reason}"


def open_variants(policy: Policy, num_variants: int) -> VariantDecoder:
    """A decoder over several sets of weights, each the policy's own until it is given others.

    Raises:
        EngineError: this model cannot be sampled so.
    """
    try:
        decoder = VariantDecoder(policy.model, num_variants)
        gap = disagreement(policy, decoder)
        reason = f"log-probabilities that differ from the model's own by {gap:.1e} nats"
    except Unsupported as error:
        gap, reason = float("inf"), str(error)
    if gap > _tolerance(policy):
        raise EngineError(
            "several sets of this model's weights cannot be sampled side by side",
            where=policy.name,
            got=reason,
            next_step="set learner.evolution.side_by_side=1",
        )
    return decoder


def disagreement(policy: Policy, decoder: Decoder) -> float:
    """Largest gap between the log-probabilities that sampling records and those of a plain forward pass, nats."""
    size = int(policy.model.get_input_embeddings().num_embeddings)
    random = generator(0, "engine probe")
    heads = [tuple(random.integers(0, size, n).tolist()) for n in _PROBE_LENGTHS]
    prefixes = [*heads, heads[0], heads[0] + heads[1]]
    scheduler = Scheduler(decoder, max_batch=len(prefixes), prefill_tokens=16, kv_tokens=0)
    sampling = Sampling(max_tokens=_PROBE_ANSWER)
    scheduler.submit(
        Call(Request(prefix=prefix, sampling=sampling, stop_ids=(), seed=i)) for i, prefix in enumerate(prefixes)
    )
    gap = 0.0
    while scheduler.busy:
        for call, result in scheduler.step():
            if isinstance(result, EngineError):
                raise result
            gap = max(gap, _gap(policy.model, call.request.prefix, result))
    return gap


@torch.no_grad()
def _gap(model: Any, prefix: tuple[int, ...], done: Completion) -> float:
    ids = torch.tensor([[*prefix, *done.tokens]], device=model.device)
    logits_NV = model(input_ids=ids, use_cache=False).logits[0, len(prefix) - 1 : -1].float()
    logp_NV = logits_NV.log_softmax(-1)
    own_N = logp_NV.gather(-1, torch.tensor(done.tokens, device=model.device)[:, None])[:, 0]
    return float((own_N.cpu() - torch.tensor(done.logprobs)).abs().max())


def _tolerance(policy: Policy) -> float:
    return _TOLERANCE.get(policy.model.dtype, _LOW_PRECISION_TOLERANCE)
