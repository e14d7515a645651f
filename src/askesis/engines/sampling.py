"""Drawing tokens from logits, row by row, each row from its own stream.

Shape suffixes: B rows, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from askesis.engines.protocol import Sampling
from askesis.errors import EngineError

__all__ = ["Controls", "Drawn", "draw"]


class Controls(NamedTuple):
    """Sampling parameters of B rows as tensors; ``plain`` rows need neither top-k nor top-p nor greedy choice."""

    temperature_B: torch.Tensor
    top_p_B: torch.Tensor
    top_k_B: torch.Tensor
    greedy_B: torch.Tensor
    truncates: bool

    @classmethod
    def stack(cls, rows: list[Sampling], device: torch.device) -> Controls:
        """One row per sampling setting."""
        greedy = [s.temperature == 0 for s in rows]
        return cls(
            temperature_B=torch.tensor([s.temperature or 1.0 for s in rows], device=device),
            top_p_B=torch.tensor([s.top_p for s in rows], device=device),
            top_k_B=torch.tensor([s.top_k for s in rows], device=device),
            greedy_B=torch.tensor(greedy, device=device),
            truncates=any(s.top_p < 1 or s.top_k > 0 for s in rows),
        )

    def take(self, rows: torch.Tensor) -> Controls:
        """The given rows only."""
        return Controls(
            self.temperature_B[rows], self.top_p_B[rows], self.top_k_B[rows], self.greedy_B[rows], self.truncates
        )


class Drawn(NamedTuple):
    """Token ids [B] and their log-probabilities [B] under the distributions drawn from."""

    tokens_B: torch.Tensor
    logprobs_B: torch.Tensor


def draw(logits_BV: torch.Tensor, controls: Controls, uniform_B: torch.Tensor) -> Drawn:
    """Inverse-transform sampling: one uniform number in [0, 1) per row decides its token.

    A greedy row takes the most probable token, of which the log-probability is 0: the distribution has one point.

    Raises:
        EngineError: the logits are not numbers, which means that the weights are broken.
    """
    logits_BV = logits_BV.float()
    if not torch.isfinite(logits_BV.sum()):
        raise EngineError(
            "the model's logits are not finite",
            next_step="the weights are broken: start a new run with a lower training.lr",
        )
    logp_BV = torch.log_softmax(logits_BV / controls.temperature_B[:, None], dim=-1)
    if controls.truncates:
        logp_BV = _truncate(logp_BV, controls)
    cdf_BV = logp_BV.double().exp().cumsum(-1)
    # The target stays below the total, so the first entry above it always belongs to a token of positive probability.
    target_B = torch.minimum(
        uniform_B.double() * cdf_BV[:, -1], torch.nextafter(cdf_BV[:, -1], torch.zeros(()).double())
    )
    sampled_B = torch.searchsorted(cdf_BV, target_B[:, None], right=True)[:, 0]
    tokens_B = torch.where(controls.greedy_B, logits_BV.argmax(-1), sampled_B)
    chosen_B = logp_BV.gather(-1, tokens_B[:, None])[:, 0]
    return Drawn(tokens_B, torch.where(controls.greedy_B, torch.zeros_like(chosen_B), chosen_B))


def _truncate(logp_BV: torch.Tensor, controls: Controls) -> torch.Tensor:
    """Keep the ``top_k`` most probable tokens, then the fewest whose mass reaches ``top_p``; renormalise."""
    size = logp_BV.shape[-1]
    sorted_BV, order_BV = logp_BV.sort(dim=-1, descending=True, stable=True)
    rank_V = torch.arange(size, device=logp_BV.device)
    limit_B = torch.where(controls.top_k_B > 0, controls.top_k_B, size)
    kept_BV = rank_V[None] < limit_B[:, None]
    within_BV = torch.where(kept_BV, sorted_BV, -torch.inf).softmax(-1)
    before_BV = within_BV.cumsum(-1) - within_BV
    kept_BV &= (before_BV < controls.top_p_B[:, None]) | (rank_V[None] == 0)
    mask_BV = torch.zeros_like(kept_BV).scatter(-1, order_BV, kept_BV)
    return torch.where(mask_BV, logp_BV, -torch.inf).log_softmax(-1)
