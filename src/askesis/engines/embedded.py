"""Sampling in the process of the learner, on CPU or CUDA.

Requests that arrive in the same moment are sampled as one batch: each distinct prompt is read once, answers that have
ended leave the batch. The random numbers of an answer come from its own seed, never from the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from askesis.engines.cache import SlabCache
from askesis.engines.protocol import Capabilities, Completion, Request
from askesis.engines.sampling import Controls, draw
from askesis.errors import ContextOverflow, EngineError
from askesis.policy.loading import Policy, weights_hash
from askesis.streams import generator

__all__ = ["EmbeddedEngine", "sample_batch"]

_SETTLE_ROUNDS = 3
_COMPACT_BELOW = 0.8


class EmbeddedEngine:
    """An engine around a policy's own tensors. Use it from one event loop; ``close`` ends its thread."""

    def __init__(self, policy: Policy, *, max_batch: int = 512) -> None:
        self._policy = policy
        self._max_batch = max_batch
        self._version = 0
        self._waiting: list[tuple[Request, asyncio.Future[Completion]]] = []
        self._pump: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="askesis-engine")

    @property
    def version(self) -> int:
        """Version of the weights that sample now."""
        return self._version

    @property
    def capabilities(self) -> Capabilities:
        """Token-exact, on the learner's tensors."""
        return Capabilities(token_exact=True, shares_weights=True)

    def publish(self, version: int) -> None:
        """The learner has changed the shared tensors to ``version``."""
        self._version = version

    def weights_hash(self) -> str:
        """Hash of the weights that sample."""
        return weights_hash(self._policy.model)

    async def close(self) -> None:
        """Refuse what waits and end the thread."""
        for _, future in self._waiting:
            future.cancel()
        self._waiting.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def generate(self, request: Request) -> Completion:
        """Continue one prefix; see :class:`askesis.engines.Engine`."""
        limit = self._policy.context_length
        if not request.prefix or len(request.prefix) + request.sampling.max_tokens > limit:
            raise ContextOverflow(
                "a prompt does not fit into the model's context",
                where=self._policy.name,
                got=f"{len(request.prefix)} prompt tokens + {request.sampling.max_tokens} to sample",
                expected=f"at least one and at most {limit} tokens in all",
                next_step="shorten the prompt, lower sampling.max_tokens, or take a model with a longer context",
            )
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run_waiting())
        return await future

    async def _run_waiting(self) -> None:
        while self._waiting:
            await self._settle()
            batch, self._waiting = self._waiting[: self._max_batch], self._waiting[self._max_batch :]
            batch = [(request, future) for request, future in batch if not future.done()]
            if not batch:
                continue
            loop = asyncio.get_running_loop()
            requests = [request for request, _ in batch]
            try:
                results = await loop.run_in_executor(self._thread, sample_batch, self._policy, requests, self._version)
            except Exception as error:
                failure = error if isinstance(error, EngineError) else _sampling_failed(error)
                for _, future in batch:
                    if not future.done():
                        future.set_exception(failure)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _settle(self) -> None:
        """Wait until no more requests join, so that sessions that run in step share one batch."""
        known, quiet = -1, 0
        while quiet < _SETTLE_ROUNDS and len(self._waiting) < self._max_batch:
            quiet = quiet + 1 if known == len(self._waiting) else 0
            known = len(self._waiting)
            await asyncio.sleep(0)


def _sampling_failed(error: Exception) -> EngineError:
    return EngineError(
        "sampling failed",
        got=f"{type(error).__name__}: {error}",
        next_step="lower engine.max_batch if memory ran out; otherwise report this with the traceback",
    )


@dataclass(slots=True)
class _Rows:
    """State of the rows that are still being sampled. Index tensors are on the model's device."""

    row_B: torch.Tensor
    """Index of the request."""
    pad_B: torch.Tensor
    """Left padding."""
    alive_B: torch.Tensor
    """False once the answer has ended; such rows stay until enough of them make a smaller batch worth a copy."""


@torch.inference_mode()
def sample_batch(policy: Policy, requests: Sequence[Request], version: int = 0) -> list[Completion]:
    """Sample all ``requests`` side by side. Each distinct prefix passes through the model once.

    Args:
        policy: whose model samples.
        requests: at least one; prefixes may differ in length, sampling parameters may differ by request.
        version: written into the completions.

    Returns:
        One completion per request, in order.
    """
    device = policy.device
    prompts = list(dict.fromkeys(r.prefix for r in requests))
    place = {prefix: i for i, prefix in enumerate(prompts)}
    longest = max(len(p) for p in prompts)
    max_new = max(r.sampling.max_tokens for r in requests)
    _refuse_sliding_windows(policy, longest + max_new)
    cache = SlabCache(longest + max_new)
    pad_P = torch.tensor([longest - len(p) for p in prompts], device=device)
    logits_PV = _prefill(policy, prompts, pad_P, longest, cache)
    owner_B = torch.tensor([place[r.prefix] for r in requests], device=device)
    cache.take(owner_B)
    rows = _Rows(torch.arange(len(requests), device=device), pad_P[owner_B], torch.ones_like(owner_B, dtype=torch.bool))
    controls = Controls.stack([r.sampling for r in requests], device)
    uniform_BT = torch.stack([_uniforms(r, max_new) for r in requests]).to(device)
    limit_B = torch.tensor([r.sampling.max_tokens for r in requests], device=device)
    stop_BS = _stop_table(requests, device)
    tokens_BT = torch.full((len(requests), max_new), -1, dtype=torch.long, device=device)
    logprobs_BT = torch.zeros(len(requests), max_new, device=device)
    logits_BV = logits_PV[owner_B]
    for step in range(max_new):
        row_B, alive_B = rows.row_B, rows.alive_B
        drawn = draw(logits_BV, controls.take(row_B), uniform_BT[row_B, step])
        tokens_BT[row_B[alive_B], step] = drawn.tokens_B[alive_B]
        logprobs_BT[row_B[alive_B], step] = drawn.logprobs_B[alive_B]
        rows.alive_B = alive_B & (stop_BS[row_B] != drawn.tokens_B[:, None]).all(-1) & (step + 1 < limit_B[row_B])
        if not rows.alive_B.any():
            break
        last_B = _compact(rows, drawn.tokens_B, cache)
        logits_BV = _decode(policy, last_B, rows.pad_B, longest + step, cache)
    return _completions(requests, tokens_BT.cpu(), logprobs_BT.cpu(), version)


def _uniforms(request: Request, count: int) -> torch.Tensor:
    """The answer's own random numbers; the first n do not depend on how many are drawn."""
    return torch.from_numpy(generator(request.seed, "tokens").random(count))


def _stop_table(requests: Sequence[Request], device: torch.device) -> torch.Tensor:
    width = max(1, *(len(r.stop_ids) for r in requests))
    return torch.tensor([[*r.stop_ids, *[-2] * (width - len(r.stop_ids))] for r in requests], device=device)


def _prefill(
    policy: Policy, prompts: Sequence[tuple[int, ...]], pad_P: torch.Tensor, longest: int, cache: SlabCache
) -> torch.Tensor:
    """Read the distinct prompts; logits of the next token [P, V]."""
    ids = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=policy.device)
    slot_L = torch.arange(longest, device=policy.device)
    real_PL = slot_L[None] >= pad_P[:, None]
    causal_LL = slot_L[:, None] >= slot_L[None]
    # A padded query sees itself, so that its softmax is defined; nobody reads the result.
    mask = (causal_LL[None] & real_PL[:, None]) | torch.eye(longest, dtype=torch.bool, device=policy.device)[None]
    return _forward(policy, ids, (slot_L[None] - pad_P[:, None]).clamp_min(0), mask[:, None], cache)


def _decode(policy: Policy, last_B: torch.Tensor, pad_B: torch.Tensor, end: int, cache: SlabCache) -> torch.Tensor:
    """Append one token to every row; logits of the next [B, V]. ``end`` is the slot that the new tokens take."""
    slot_L = torch.arange(end + 1, device=policy.device)
    mask = slot_L[None] >= pad_B[:, None]
    return _forward(policy, last_B[:, None], (end - pad_B)[:, None], mask[:, None, None], cache)


def _forward(
    policy: Policy, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache: SlabCache
) -> torch.Tensor:
    out = policy.model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.advance()
    logits: torch.Tensor = out.logits[:, -1]
    return logits


def _compact(rows: _Rows, last_B: torch.Tensor, cache: SlabCache) -> torch.Tensor:
    """Drop ended rows once they are a good part of the batch; the newest tokens of the rows that remain."""
    if int(rows.alive_B.sum()) > _COMPACT_BELOW * len(last_B):
        return last_B
    keep = rows.alive_B.nonzero()[:, 0]
    cache.take(keep)
    rows.row_B, rows.pad_B, rows.alive_B = rows.row_B[keep], rows.pad_B[keep], rows.alive_B[keep]
    return last_B[keep]


def _completions(
    requests: Sequence[Request], tokens_BT: torch.Tensor, logprobs_BT: torch.Tensor, version: int
) -> list[Completion]:
    results = []
    for request, tokens, logprobs in zip(requests, tokens_BT.tolist(), logprobs_BT.tolist(), strict=True):
        size = tokens.index(-1) if -1 in tokens else len(tokens)
        results.append(
            Completion(
                tokens=tuple(tokens[:size]),
                logprobs=tuple(logprobs[:size]),
                finish="stop" if tokens[size - 1] in request.stop_ids else "length",
                version=version,
            )
        )
    return results


def _refuse_sliding_windows(policy: Policy, length: int) -> None:
    """Layers that see only a window would be given a full mask; that is right only while the window is not exceeded."""
    config = policy.model.config
    window = getattr(config, "sliding_window", None)
    windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    if windowed and window is not None and length > window:
        raise EngineError(
            "the embedded engine does not sample beyond a sliding attention window",
            where=policy.name,
            got=f"{length} tokens",
            expected=f"at most the window of {window} tokens",
            next_step="shorten prompts or sampling.max_tokens, or use a model without sliding attention",
        )
