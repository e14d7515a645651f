"""Token by token: which requests are sampled side by side, and when they join and leave.

A request that waits joins at the next token; an answer that ends leaves its row to the next. Nothing here loops over
rows per token: rows are looked at one by one only when they join or leave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch

from askesis.engines.cache import RowCache
from askesis.engines.decoder import Decoder
from askesis.engines.kv import Node, PrefixTree
from askesis.engines.prefill import Prefixes, read_prefixes
from askesis.engines.protocol import Completion, Request
from askesis.engines.rows import Rows
from askesis.engines.sampling import draw
from askesis.errors import EngineError

__all__ = ["Call", "Result", "Scheduler"]

_SHARE_FROM = 64
"""A common prefix shorter than this is cheaper copied into each row than attended to apart."""

_ROOM = 128
"""Columns made ready for answers to come; longer answers get more when they need it."""


class Part(NamedTuple):
    """What one version of the weights drew of an answer."""

    tokens: list[int]
    logprobs: list[float]
    version: int


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way through the engine. ``owner`` is the caller's own; the scheduler does not look at it."""

    request: Request
    """What is left to do: after a change of weights the prefix holds what was drawn before."""
    owner: Any = None
    cancelled: bool = False
    num_shared: int = 0
    """Tokens of the prefix that lie in a block shared with other rows."""
    parts: tuple[Part, ...] = ()
    """Drawn from earlier weights."""

    @property
    def num_drawn(self) -> int:
        """Tokens in ``parts``."""
        return sum(len(part.tokens) for part in self.parts)

    def interrupt(self, part: Part) -> None:
        """``part`` was drawn; the rest is asked for anew."""
        size, request = len(part.tokens), self.request
        self.parts += (part,)
        self.request = replace(
            request,
            prefix=(*request.prefix, *part.tokens),
            sampling=replace(request.sampling, max_tokens=request.sampling.max_tokens - size),
        )
        self.num_shared = 0


Result = tuple[Call, Completion | EngineError]


class Scheduler:
    """Samples calls over one decoder. Not thread-safe.

    Args:
        decoder: computes logits.
        max_batch: rows sampled side by side at most.
        prefill_tokens: tokens read in one pass at most.
        kv_tokens: tokens whose keys and values are kept for later prefixes.
    """

    def __init__(self, decoder: Decoder, *, max_batch: int, prefill_tokens: int, kv_tokens: int) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._prefill_tokens = prefill_tokens
        self._tree = PrefixTree(kv_tokens, max_run=prefill_tokens)
        self._waiting: deque[Call] = deque()
        self._version = 0
        self._renewal: int | None = None
        self._cancelled = False
        self._calls: list[Call] = []
        self._rows = Rows(decoder.layout.device)
        self._cache = RowCache(decoder.layout)

    @property
    def busy(self) -> bool:
        """Something waits or is being sampled."""
        return bool(self._waiting or self._calls)

    @property
    def num_kept(self) -> int:
        """Tokens whose keys and values are kept for later prefixes."""
        return self._tree.num_tokens

    def submit(self, calls: Iterable[Call]) -> None:
        """Let calls wait for a row, in this order."""
        self._waiting.extend(calls)

    def renew(self, version: int) -> None:
        """Calls not yet begun are sampled with ``version`` of the weights, and what was kept is forgotten.

        Rows that are being sampled end first.
        """
        self._renewal = version
        if not self._calls:
            self._forget()

    def swap(self, version: int) -> None:
        """The weights have become ``version``: rows go on with them from their next token. Nothing that the old ones
        read is used again, so prefixes, and what was drawn of the answers, are read anew.
        """
        rows = self._calls
        for call, (tokens, logprobs) in zip(rows, self._rows.answers(range(len(rows))), strict=True):
            call.interrupt(Part(tokens, logprobs, self._version))
        self._waiting.extendleft(reversed(rows))  # they began first
        self._renewal = version
        self._forget()

    def cancel(self, call: Call) -> None:
        """Nobody waits for ``call`` any more: it leaves before the next token."""
        call.cancelled = True
        self._cancelled = True

    def abandon(self, error: Exception) -> list[Result]:
        """Fail all calls, those that wait too."""
        waiting, self._waiting = self._waiting, deque()
        failure = _failure(error)
        return self._fail_rows(failure) + [(call, failure) for call in waiting]

    @torch.inference_mode()
    def step(self) -> list[Result]:
        """Sample one token of each row; the calls that ended, failed ones with their error."""
        results: list[Result] = []
        logits: list[torch.Tensor] = []
        if self._cancelled:
            self._drop_cancelled()
        if self._calls:
            try:
                logits.append(self._decode())
            except Exception as error:
                results += self._fail_rows(_failure(error))
        calls = self._next_calls()
        if calls:
            try:
                read = self._read(calls)
            except Exception as error:
                self._tree.clear()  # it may hold runs that were not read
                failure = _failure(error)
                results += [(call, failure) for call in calls]
            else:
                self._calls += calls
                try:
                    logits.append(self._seat(calls, read))
                except Exception as error:
                    return results + self._fail_rows(_failure(error))
        if self._calls:
            try:
                results += self._draw(torch.cat(logits))
            except Exception as error:
                results += self._fail_rows(_failure(error))
        return results

    def _decode(self) -> torch.Tensor:
        rows = self._rows
        self._cache.advance()
        return self._decoder.step(rows.last_B, rows.position(), self._cache, rows.variant_B)

    def _next_calls(self) -> list[Call]:
        """Waiting calls that find a free row."""
        if self._calls and self._renewal is not None:
            return []
        count = min(self._max_batch - len(self._calls), len(self._waiting))
        return [self._waiting.popleft() for _ in range(count)]

    def _read(self, calls: Sequence[Call]) -> Prefixes:
        """Read the calls' prefixes; touches no row."""
        if not self._calls:
            self._take_weights()
        requests = [call.request for call in calls]
        self._decoder.reserve(max(len(r.prefix) + r.sampling.max_tokens for r in requests))
        prefixes = list(dict.fromkeys((r.variant, r.prefix) for r in requests))
        return read_prefixes(self._decoder, self._tree, prefixes, max_tokens=self._prefill_tokens)

    def _seat(self, calls: Sequence[Call], read: Prefixes) -> torch.Tensor:
        """Give each call a row; logits of their first tokens."""
        requests = [call.request for call in calls]
        paths = [read.paths[r.variant, r.prefix] for r in requests]
        cuts = _shared_lengths(paths) if self._decoder.ragged else [0] * len(paths)
        for call, path, cut in zip(calls, paths, cuts, strict=True):
            call.num_shared = sum(len(node.tokens) for node in path[:cut])
        self._cache.admit(
            [(path[:cut], path[cut:]) for path, cut in zip(paths, cuts, strict=True)],
            room=min(max(r.sampling.max_tokens for r in requests), _ROOM),
        )
        self._rows.admit(requests, [call.num_drawn for call in calls])
        self._tree.trim()
        place_B = torch.tensor([read.place[r.variant, r.prefix] for r in requests], device=self._decoder.layout.device)
        return read.logits_PV[place_B]

    def _draw(self, logits_BV: torch.Tensor) -> list[Result]:
        drawn = draw(logits_BV, self._rows.controls, self._rows.uniform())
        ended_B = self._rows.record(drawn)
        ended, valid = torch.stack([ended_B, drawn.valid_B]).cpu().numpy()  # the one exchange with the device
        if not valid.all():
            raise EngineError(
                "the model's logits are not finite",
                next_step="the weights are broken: start a new run with a lower training.lr",
            )
        rows = np.flatnonzero(ended).tolist()
        if not rows:
            return []
        answers = self._rows.answers(rows)
        results: list[Result] = [
            (self._calls[row], self._completion(row, *answer)) for row, answer in zip(rows, answers, strict=True)
        ]
        self._tree.trim()
        self._remove(rows)
        return results

    def _completion(self, row: int, tokens: list[int], logprobs: list[float]) -> Completion:
        call = self._calls[row]
        request = call.request
        if self._tree.max_tokens and self._renewal is None:
            self._keep(row, (*request.prefix, *tokens[:-1]), request.variant)
        parts = (*call.parts, Part(tokens, logprobs, self._version))
        starts = accumulate((len(part.tokens) for part in parts), initial=0)
        spans = [(start, part.version) for start, part in zip(starts, parts, strict=False)]
        return Completion(
            tokens=tuple(token for part in parts for token in part.tokens),
            logprobs=tuple(value for part in parts for value in part.logprobs),
            finish="stop" if tokens[-1] in request.stop_ids else "length",
            version=spans[0][1],
            swaps=tuple(spans[1:]),
        )

    def _keep(self, row: int, sequence: tuple[int, ...], variant: int) -> None:
        """Keep what was sampled for the next turn of the dialogue."""
        start, shared = 0, self._calls[row].num_shared
        new: list[Node] = []
        for node in self._tree.insert(sequence, variant):
            stop = start + len(node.tokens)
            if node.kv is None:
                new.append(node)
                if start >= shared:
                    node.kv = self._cache.own(row, start - shared, stop - shared)
            start = stop
        if any(node.kv is None for node in new):  # the prefix was forgotten meanwhile
            for node in reversed(new):
                self._tree.remove(node)

    def _remove(self, rows: Sequence[int]) -> None:
        """Free rows; the last rows take the places of those that left."""
        count = len(self._calls) - len(rows)
        gone = set(rows)
        holes = [row for row in rows if row < count]
        movers = [row for row in range(count, len(self._calls)) if row not in gone]
        order = list(range(count))
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        self._calls = [self._calls[row] for row in order]
        self._rows.keep(order)
        self._cache.keep(holes, movers, count)

    def _drop_cancelled(self) -> None:
        self._cancelled = False
        self._waiting = deque(call for call in self._waiting if not call.cancelled)
        rows = [row for row, call in enumerate(self._calls) if call.cancelled]
        if rows:
            self._remove(rows)

    def _fail_rows(self, failure: EngineError) -> list[Result]:
        """Fail what is being sampled and forget whatever the failure may have spoilt."""
        failed: list[Result] = [(call, failure) for call in self._calls]
        self._forget()
        return failed

    def _take_weights(self) -> None:
        """Follow what the learner has done to the weights, announced or not."""
        if self._renewal is None and not self._decoder.changed():
            return
        if self._renewal is not None:
            self._version, self._renewal = self._renewal, None
        self._decoder.refresh()
        self._forget()

    def _forget(self) -> None:
        self._tree.clear()
        self._calls = []
        self._rows = Rows(self._decoder.layout.device)
        self._cache = RowCache(self._decoder.layout)


def _shared_lengths(paths: Sequence[Sequence[Node]]) -> list[int]:
    """How many nodes of each path are shared: up to the deepest that another path also has, if that is long enough."""
    counts: dict[int, int] = {}
    for path in paths:
        for node in path:
            counts[id(node)] = counts.get(id(node), 0) + 1
    cuts = []
    for path in paths:
        cut = next((i for i in range(len(path), 0, -1) if counts[id(path[i - 1])] > 1), 0)
        cuts.append(cut if sum(len(node.tokens) for node in path[:cut]) >= _SHARE_FROM else 0)
    return cuts


def _failure(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    return EngineError(
        "sampling failed",
        got=f"{type(error).__name__}: {error}",
        next_step="lower engine.max_batch if memory ran out; otherwise report this with the traceback",
    )
