"""Drawing from logits: hand-made distributions with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from askesis.engines import Sampling
from askesis.engines.sampling import Controls, draw

P = [0.5, 0.3, 0.15, 0.05]
LOGITS = torch.tensor([[math.log(p) for p in P]])
CPU = torch.device("cpu")


def at(u: float, **sampling: float) -> tuple[int, float]:
    drawn = draw(LOGITS, Controls.stack([Sampling(**sampling)], CPU), torch.tensor([u]))  # type: ignore[arg-type]
    return int(drawn.tokens_B[0]), float(drawn.logprobs_B[0])


@pytest.mark.parametrize(
    ("u", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.79, 1), (0.81, 2), (0.96, 3), (1 - 1e-9, 3)]
)
def test_the_uniform_number_picks_by_cumulative_mass(u: float, token: int) -> None:
    drawn, logprob = at(u)
    assert drawn == token
    assert logprob == pytest.approx(math.log(P[token]), abs=1e-6)


def test_temperature_rescales_what_is_recorded() -> None:
    squared = np.array(P) ** 2 / (np.array(P) ** 2).sum()
    token, logprob = at(0.1, temperature=0.5)
    assert token == 0 and logprob == pytest.approx(math.log(squared[0]), abs=1e-6)


def test_top_k_and_top_p_renormalise() -> None:
    assert at(0.99, top_k=2) == (1, pytest.approx(math.log(0.3 / 0.8), abs=1e-6))
    assert at(0.99, top_p=0.6) == (1, pytest.approx(math.log(0.3 / 0.8), abs=1e-6))
    assert at(0.99, top_p=0.4) == (0, pytest.approx(0.0, abs=1e-6))
    assert at(0.99, top_k=3, top_p=0.5) == (0, pytest.approx(0.0, abs=1e-6))


def test_rows_keep_their_own_parameters() -> None:
    settings = [Sampling(), Sampling(temperature=0.0), Sampling(top_k=1)]
    drawn = draw(LOGITS.repeat(3, 1), Controls.stack(settings, CPU), torch.tensor([0.99, 0.99, 0.99]))
    assert drawn.tokens_B.tolist() == [3, 0, 0]


def test_frequencies_match_the_distribution() -> None:
    size = 20_000
    u = torch.from_numpy(np.random.default_rng(0).random(size))
    drawn = draw(LOGITS.repeat(size, 1), Controls.stack([Sampling()] * size, CPU), u)
    share = np.bincount(drawn.tokens_B.numpy(), minlength=4) / size
    assert share == pytest.approx(P, abs=0.015)  # five standard errors


def test_a_token_of_probability_zero_is_never_drawn() -> None:
    for low in (-torch.inf, -200.0):
        logits = torch.tensor([[low, 0.0, low, 0.0, low, low]])
        drawn = draw(logits.repeat(3, 1), Controls.stack([Sampling()] * 3, CPU), torch.tensor([0.0, 0.5, 1 - 1e-12]))
        assert drawn.tokens_B.tolist() == [1, 3, 3] and drawn.valid_B.all()
        assert drawn.logprobs_B.tolist() == pytest.approx([math.log(0.5)] * 3)


def test_logits_that_are_not_numbers_are_marked() -> None:
    logits = torch.tensor([[0.0, 1.0], [0.0, torch.nan], [torch.inf, 0.0], [-torch.inf, -torch.inf]])
    drawn = draw(logits, Controls.stack([Sampling()] * 4, CPU), torch.full((4,), 0.5))
    assert drawn.valid_B.tolist() == [True, False, False, False]


@pytest.mark.parametrize("size", [1, 2, 7, 96, 101, 131, 768])
def test_blocks_of_the_vocabulary_change_nothing(size: int) -> None:
    random = torch.Generator().manual_seed(size)
    logits = torch.randn(200, size, generator=random) * 3
    u = torch.rand(200, generator=random, dtype=torch.float64)
    drawn = draw(logits, Controls.stack([Sampling()] * 200, CPU), u)
    logp = logits.double().log_softmax(-1)
    expected = torch.searchsorted(logp.exp().cumsum(-1), u[:, None]).clamp_(max=size - 1)[:, 0]
    assert drawn.tokens_B.equal(expected)
    chosen = logp.gather(-1, expected[:, None])[:, 0]
    torch.testing.assert_close(drawn.logprobs_B.double(), chosen, atol=1e-5, rtol=0)
