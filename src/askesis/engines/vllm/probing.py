"""Does a server hold the weights that it should? Its log-probabilities of fixed sequences against the learner's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from askesis.engines.protocol import Completion, Request, Sampling
from askesis.errors import EngineError
from askesis.policy.loading import Policy
from askesis.streams import generator

__all__ = ["Probe", "check_sampling", "judge", "sampling_probe"]

_SEQUENCES, _LENGTH = 4, 24
_MOVED = 4.0
"""Weights have visibly changed when the learner's log-probabilities moved by this many times the engine's noise."""
_WARM = 0.5
"""Temperature at which a server that reports the model's own log-probabilities gives itself away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Sequences of random ids, the same in every run, and the learner's log-probabilities of them (nats, flat)."""

    sequences: tuple[tuple[int, ...], ...]
    logprobs: tuple[float, ...]

    @classmethod
    @torch.no_grad()
    def of(cls, policy: Policy, max_length: int) -> Probe:
        """Score the sequences with the policy's present weights."""
        size = int(policy.model.get_input_embeddings().num_embeddings)
        ids = generator(0, "vllm probe").integers(0, size, (_SEQUENCES, min(_LENGTH, max_length - 1)))
        ids_BN = torch.from_numpy(ids).to(policy.device)
        logp_BNV = policy.model(input_ids=ids_BN, use_cache=False).logits.float().log_softmax(-1)
        logp_BN = logp_BNV[:, :-1].gather(-1, ids_BN[:, 1:, None])[..., 0]
        return cls(
            sequences=tuple(tuple(row) for row in ids.tolist()), logprobs=tuple(logp_BN.flatten().cpu().tolist())
        )


def judge(theirs: Sequence[float], now: Probe, before: Probe | None, *, limit: float, where: str) -> float:
    """Mean gap between a server's log-probabilities and the learner's, nats.

    Args:
        theirs: of ``now.sequences``.
        now: by the weights that the server should hold.
        before: by those of the version before it; None when there is none.
        limit: largest gap.
        where: names the server.

    Raises:
        EngineError: the gap is too large, or the server is nearer to the weights before although the learner's have
            visibly moved. A step too small to be seen through the rounding of low precision is not found here; the
            hash finds it.
    """
    gap = _mean_gap(theirs, now.logprobs)
    if before is not None:
        old = _mean_gap(theirs, before.logprobs)
        moved = _mean_gap(now.logprobs, before.logprobs)
        if old < gap and moved > _MOVED * old:
            raise EngineError(
                "the server still samples from the weights before the last update",
                where=where,
                got=f"{old:.1e} nats from the old weights, {gap:.1e} from the new ones",
                next_step="restart the server; if this comes back, report it with the server's log",
            )
    if not gap <= limit:
        raise EngineError(
            "the server's log-probabilities are not those of the weights that it was given",
            where=where,
            got=f"mean gap {gap:.1e} nats",
            expected=f"at most {limit:.0e}",
            next_step="compare the model, policy.dtype and engine.vllm.dtype, and quantisation; raise "
            "engine.vllm.max_gap only if the difference is understood",
        )
    return gap


def _mean_gap(a: Sequence[float], b: Sequence[float]) -> float:
    return float(np.abs(np.subtract(a, b)).mean())


def sampling_probe(probe: Probe) -> Request:
    """A short answer at a low temperature, cut by neither top-k nor top-p."""
    prefix = probe.sequences[0][: len(probe.sequences[0]) // 2]
    drawn = Sampling(temperature=_WARM, max_tokens=len(probe.sequences[0]) - len(prefix))
    return Request(prefix=prefix, sampling=drawn, stop_ids=(), seed=0)


@torch.no_grad()
def check_sampling(policy: Policy, request: Request, done: Completion, *, limit: float, where: str) -> None:
    """Are the log-probabilities in ``done`` those of the distribution that was asked for, and not the model's own?

    Raises:
        EngineError: they are not.
    """
    ids = torch.tensor([[*request.prefix, *done.tokens]], device=policy.device)
    logits_NV = policy.model(input_ids=ids, use_cache=False).logits[0, len(request.prefix) - 1 : -1].float()
    tokens_N = torch.tensor(done.tokens, device=policy.device)
    gap, raw_gap = (
        _mean_gap(_logprobs_of(logits_NV, tokens_N, sampling), done.logprobs)
        for sampling in (request.sampling, Sampling())
    )
    if raw_gap <= limit < gap:
        raise EngineError(
            "the server gives the model's own log-probabilities, not those of the distribution that it draws from",
            where=where,
            got=f"a gap of {gap:.1e} nats at temperature {request.sampling.temperature}, {raw_gap:.1e} at 1",
            next_step="start it with --logprobs-mode processed_logprobs",
        )
    if not gap <= limit:
        raise EngineError(
            "the server does not sample from the model that is trained, or not as it is told to",
            where=where,
            got=f"a mean gap of {gap:.1e} nats at temperature {request.sampling.temperature}",
            expected=f"at most {limit:.0e}",
            next_step="compare the model, policy.dtype and engine.vllm.dtype, and quantisation",
        )


def _logprobs_of(logits_NV: torch.Tensor, tokens_N: torch.Tensor, sampling: Sampling) -> list[float]:
    logp_NV = (logits_NV / sampling.temperature).log_softmax(-1)
    found: list[float] = logp_NV.gather(-1, tokens_N[:, None])[:, 0].tolist()
    return found
