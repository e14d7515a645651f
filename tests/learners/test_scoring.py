"""From logits to log-probability and entropy, whole and in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest
import torch

from askesis.learners import scoring
from askesis.learners.batch import Row
from askesis.learners.scoring import Features, Scorer


class LinearScorer(Scorer):
    """A model that is one matrix."""

    vocabulary = 5

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__(temperature)
        generator = torch.Generator().manual_seed(0)
        self.weight_VX = torch.randn(5, 3, generator=generator).requires_grad_()
        self.features_UX = torch.randn(7, 3, generator=generator).requires_grad_()
        self.largest = 0

    def micro_batches(self, rows: Sequence[Row], max_tokens: int) -> Iterator[list[int]]:
        yield list(range(len(rows)))

    def features(self, rows: Sequence[Row]) -> Features:
        index_BT = torch.tensor([[0, 1, 2, 3], [4, 5, 0, 0], [6, 3, 0, 0]])
        mask_BT = torch.tensor([[True] * 4, [True, True, False, False], [True, True, False, False]])
        return Features(self.features_UX, torch.tensor([0, 1, 2, 3, 4, 0, 1]), index_BT, mask_BT)

    def logits(self, features_UX: torch.Tensor) -> torch.Tensor:
        self.largest = max(self.largest, len(features_UX))
        return features_UX @ self.weight_VX.T


def test_scores_by_hand() -> None:
    scorer = LinearScorer()
    with torch.no_grad():
        scorer.weight_VX.zero_()
    scores = scorer([])
    assert scores.logp_BT[0].tolist() == pytest.approx([-math.log(5)] * 4)
    assert scores.entropy_BT.tolist()[1] == pytest.approx([math.log(5), math.log(5), 0, 0])


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_scores_and_gradients_are_those_of_log_softmax(temperature: float) -> None:
    scorer = LinearScorer(temperature)
    scores = scorer([])
    upstream = torch.arange(12.0).view(3, 4)
    ours = torch.autograd.grad((scores.logp_BT * upstream).sum(), (scorer.weight_VX, scorer.features_UX))
    logp_UV = (scorer.features_UX @ scorer.weight_VX.T / temperature).log_softmax(-1)
    features = scorer.features([])
    logp_U = logp_UV.gather(1, features.target_U[:, None])[:, 0]
    logp_BT = torch.where(features.mask_BT, logp_U[features.index_BT], 0.0)
    theirs = torch.autograd.grad((logp_BT * upstream).sum(), (scorer.weight_VX, scorer.features_UX))
    assert torch.allclose(scores.logp_BT, logp_BT, atol=1e-6)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    entropy_U = torch.distributions.Categorical(logits=logp_UV).entropy()
    assert torch.allclose(scores.entropy_BT[0], entropy_U[:4], atol=1e-6)
    assert not scores.entropy_BT.requires_grad


def test_chunks_change_nothing_and_bound_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for elements in (1 << 24, 10):  # 10 elements are two tokens of this vocabulary
        monkeypatch.setattr(scoring, "_CHUNK_ELEMENTS", elements)
        scorer = LinearScorer()
        scores = scorer([])
        grads = torch.autograd.grad(scores.logp_BT.sum(), (scorer.weight_VX, scorer.features_UX))
        results.append((scores.logp_BT, scores.entropy_BT, *grads))
    assert scorer.largest == 2
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*results, strict=True))


def test_an_impossible_token_does_not_spoil_the_entropy() -> None:
    scorer = LinearScorer()
    scorer.logits = lambda x: torch.tensor([[0.0, 0.0, -math.inf, -math.inf, -math.inf]]).expand(len(x), 5)  # type: ignore[method-assign]
    assert scorer([]).entropy_BT[0].tolist() == pytest.approx([math.log(2)] * 4)
