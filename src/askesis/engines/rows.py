"""Sampling state of the rows of a batch as tensors, one row per answer in progress.

Shape suffixes: B rows, S stop ids, U tokens of the longest answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from askesis.engines.protocol import Request
from askesis.engines.sampling import Controls, Drawn
from askesis.streams import seed_of

__all__ = ["Rows"]

_NO_TOKEN = -1
_NO_STOP = -2


class Rows:
    """Starts empty. All index tensors live on the model's device, so a step needs no exchange with it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        none = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.count_B = none[:, 0:0].sum(-1)
        """Tokens drawn so far."""
        self.last_B = self.count_B
        """The newest token."""
        self.variant_B = self.count_B
        """Which of the decoder's sets of weights continues the row."""
        self._prefix_B = self.count_B
        self._limit_B = self.count_B
        self._stop_BS = none
        self._tokens_BU = none
        self._logprobs_BU = none.float()
        self._uniform_BU = none.double()
        self.controls = Controls.stack([], device)

    def __len__(self) -> int:
        """Rows in use."""
        return len(self.count_B)

    def position(self) -> torch.Tensor:
        """Place of the newest token in its sequence, from 0 [B]."""
        return self._prefix_B + (self.count_B - 1)

    def admit(self, requests: Sequence[Request], drawn: Sequence[int] = ()) -> None:
        """Append rows. ``drawn``: how many tokens of each answer came before, which used up as many random numbers."""
        longest = max(r.sampling.max_tokens for r in requests)
        stops = max(len(r.stop_ids) for r in requests)
        zeros = self._ints([0] * len(requests))
        blank = zeros[:, None].expand(-1, longest)
        self.count_B = torch.cat([self.count_B, zeros])
        self.last_B = torch.cat([self.last_B, zeros])
        self.variant_B = torch.cat([self.variant_B, self._ints([r.variant for r in requests])])
        self._prefix_B = torch.cat([self._prefix_B, self._ints([len(r.prefix) for r in requests])])
        self._limit_B = torch.cat([self._limit_B, self._ints([r.sampling.max_tokens for r in requests])])
        table = [[*r.stop_ids, *[_NO_STOP] * (stops - len(r.stop_ids))] for r in requests]
        self._stop_BS = _append(self._stop_BS, self._ints(table).view(len(requests), stops), _NO_STOP)
        self._tokens_BU = _append(self._tokens_BU, blank, _NO_TOKEN)
        self._logprobs_BU = _append(self._logprobs_BU, blank.float(), 0.0)
        self._uniform_BU = _append(
            self._uniform_BU, _uniforms(requests, longest, drawn or [0] * len(requests)).to(self._device), 0.0
        )
        self.controls = self.controls.append(Controls.stack([r.sampling for r in requests], self._device))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only ``rows``, in this order."""
        index_B = self._ints(rows)
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                setattr(self, name, value[index_B])
        self.controls = self.controls.take(index_B)

    def uniform(self) -> torch.Tensor:
        """The random number that decides each row's next token [B]."""
        return self._uniform_BU.gather(1, self.count_B[:, None])[:, 0]

    def record(self, drawn: Drawn) -> torch.Tensor:
        """Write down what was drawn; which answers have ended [B]."""
        self._tokens_BU.scatter_(1, self.count_B[:, None], drawn.tokens_B[:, None])
        self._logprobs_BU.scatter_(1, self.count_B[:, None], drawn.logprobs_B[:, None])
        self.last_B, self.count_B = drawn.tokens_B, self.count_B + 1
        return (self._stop_BS == drawn.tokens_B[:, None]).any(-1) | (self.count_B >= self._limit_B)

    def answers(self, rows: Sequence[int]) -> list[tuple[list[int], list[float]]]:
        """Tokens and log-probabilities of ``rows``."""
        index_B = self._ints(rows)
        counts = self.count_B[index_B].tolist()
        tokens, logprobs = self._tokens_BU[index_B].tolist(), self._logprobs_BU[index_B].tolist()
        return [(t[:n], p[:n]) for t, p, n in zip(tokens, logprobs, counts, strict=True)]

    def _ints(self, values: Sequence[object]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)


def _append(table: torch.Tensor, rows: torch.Tensor, fill: float) -> torch.Tensor:
    """Rows under a table, the narrower of the two padded."""
    width = max(table.shape[1], rows.shape[1])
    return torch.cat([F.pad(t, (0, width - t.shape[1]), value=fill) for t in (table, rows)])


def _uniforms(requests: Sequence[Request], width: int, drawn: Sequence[int]) -> torch.Tensor:
    """Each answer's own random numbers, those of ``streams.generator(seed, "tokens")``; the first n do not depend on
    how many are drawn. One generator is set to each stream in turn: making one costs more than a token.
    """
    table = np.zeros((len(requests), width))
    bits = np.random.Philox(key=0)
    source, state = np.random.Generator(bits), bits.state
    for row, request, before in zip(table, requests, drawn, strict=True):
        state["state"]["key"][0] = seed_of(request.seed, "tokens")
        bits.state = state
        count = request.sampling.max_tokens
        row[:count] = source.random(before + count)[before:]
    return torch.from_numpy(table)
