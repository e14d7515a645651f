"""VESPO: vespo.md 7a."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from askesis.algorithms import build
from askesis.algorithms.objectives.reinforce import reinforce
from askesis.algorithms.objectives.vespo import gamma_kernel, vespo
from askesis.algorithms.types import LossInputs

NEW = [[-1.0, -0.5, -2.0], [-0.7, -1.2, float("nan")]]
BEHAVIOUR = [[-1.2, -0.6, -1.9], [-0.5, -1.0, float("nan")]]


def phi(weight: float, c1: float, c2: float) -> float:
    return float(gamma_kernel(torch.tensor(weight, dtype=torch.float64).log(), c1, c2))


@pytest.mark.parametrize(
    ("weight", "positive", "negative"),
    [
        (0.1, 0.148797, 0.006050),
        (0.25, 0.592983, 0.070026),
        (0.5, 1.120422, 0.339785),
        (0.9, 1.093386, 0.890403),
        (1.0, 1.0, 1.0),
        (1.1, 0.896390, 1.089731),
        (1.5, 0.502043, 1.241593),
        (2.0, 0.199148, 1.082682),
        (3.0, 0.022309, 0.494522),
        (5.0, 1.54e-4, 0.041933),
    ],
)
def test_7a_kernel(weight: float, positive: float, negative: float) -> None:
    assert phi(weight, 2, 3) == pytest.approx(positive, abs=1e-6)
    assert phi(weight, 3, 2) == pytest.approx(negative, abs=1e-6)


GRID = torch.linspace(1e-3, 20, 400_000, dtype=torch.float64)


@pytest.mark.parametrize(
    ("c1", "c2", "bound", "peak", "at", "free", "square"),
    [(2, 3, math.e**2 / 3, 1.208125, 2 / 3, 2.510692, 1.459567), (3, 2, 1.0, 1.241593, 1.5, 1.122679, 1.541553)],
)
def test_7a_bounds(c1: float, c2: float, bound: float, peak: float, at: float, free: float, square: float) -> None:
    values = gamma_kernel(GRID.log(), c1, c2)
    assert float((values / GRID).max()) == pytest.approx(bound, abs=1e-6)
    assert float(values.max()) == pytest.approx(peak, abs=1e-6)
    assert float(GRID[values.argmax()]) == pytest.approx(at, abs=1e-3)
    assert (c1 / c2) ** c1 * math.exp(c2 - c1) == pytest.approx(peak, abs=1e-6)
    assert float((values.square() / GRID).max()) == pytest.approx(free, abs=1e-6)
    assert peak**2 == pytest.approx(square, abs=3e-6)


@pytest.mark.parametrize(("c1", "c2", "at_one", "limit"), [(2, 3, 1.787282, 2.231726), (3, 2, 0.597264, 1.847264)])
def test_7a_the_surrogate_behind_the_kernel(c1: float, c2: float, at_one: float, limit: float) -> None:
    # f' = phi / W, so f is the integral, here by the midpoint rule, and f'(1) = 1.
    step = 1e-4
    middle = torch.arange(0.5, 3e5, dtype=torch.float64) * step
    slope = gamma_kernel(middle.log(), c1, c2) / middle
    assert float(slope[:10_000].sum()) * step == pytest.approx(at_one, abs=1e-5)
    assert float(slope.sum()) * step == pytest.approx(limit, abs=1e-5)
    assert phi(1.0, c1, c2) == 1.0


def batch(name: str, overrides: dict[str, object] | None = None) -> tuple[float, torch.Tensor, dict[str, float | None]]:
    algorithm = build(name, overrides)
    mask = torch.tensor([[True, True, True], [True, True, False]])
    leaf = torch.tensor(NEW, dtype=torch.float64, requires_grad=True)
    sequence = torch.tensor([0, 1])
    result = algorithm.loss(
        LossInputs(
            logp_new_BT=leaf,
            logp_behaviour_BT=torch.tensor(BEHAVIOUR, dtype=torch.float64),
            advantage_BT=torch.tensor([[1.0], [-1.0]], dtype=torch.float64).expand(2, 3),
            mask_BT=mask,
            weight_BT=algorithm.token_weights(mask, sequence),
            sequence_B=sequence,
        )
    )
    result.loss.backward()
    assert leaf.grad is not None
    return result.loss.item(), leaf.grad, {name: sums.mean() for name, sums in result.diagnostics.items()}


def test_7a_worked_batch() -> None:
    loss, grad, diagnostics = batch("vespo")
    assert loss == pytest.approx(0.3161669, abs=1e-7)
    assert grad[0].tolist() == pytest.approx([-0.1535627] * 3, abs=1e-7)
    assert grad[1].tolist() == pytest.approx([0.1164751, 0.1164751, 0.0], abs=1e-7)
    assert diagnostics["phi"] == pytest.approx((0.767814 + 0.582375) / 2, abs=1e-6)
    assert diagnostics["phi_square"] == pytest.approx((0.767814**2 + 0.582375**2) / 2, abs=1e-6)
    assert diagnostics["log_ratio_sequence"] == pytest.approx(-0.1)
    assert diagnostics["phi_dead"] == diagnostics["phi_heavy"] == 0.0


def test_7a_the_preset_does_not_average_within_sequences() -> None:
    loss, _, _ = batch("vespo", {"aggregation": "seq_mean_token_mean"})
    assert loss == pytest.approx(0.1712630, abs=1e-7)
    assert build("vespo").aggregation.value == "token_mean"


def coefficient(
    gaps: list[list[float]], advantage: list[float], sequence: list[int], c: tuple[float, float, float, float]
) -> list[list[float]]:
    """phi of each token, read off the gradient."""
    new = torch.tensor(gaps, dtype=torch.float64, requires_grad=True)
    a = torch.tensor(advantage, dtype=torch.float64)[:, None].expand_as(new)
    zeros = torch.zeros_like(new)
    names = ("c1_positive", "c2_positive", "c1_negative", "c2_negative")
    terms = vespo(new, zeros, a, zeros == 0, sequence_B=torch.tensor(sequence), **dict(zip(names, c, strict=True)))
    (grad,) = torch.autograd.grad(terms.per_token_BT.sum(), new)
    values: list[list[float]] = (-grad / a).tolist()
    return values


def test_7a_limits() -> None:
    gaps = [[0.3, -0.8], [0.2, 0.9]]
    assert coefficient(gaps, [1, -1], [0, 1], (0, 0, 0, 0)) == [[1.0, 1.0], [1.0, 1.0]]
    exact = coefficient(gaps, [1, -1], [0, 1], (1, 0, 1, 0))
    assert [row[0] for row in exact] == pytest.approx([math.exp(-0.5), math.exp(1.1)])
    no_weights = torch.tensor(gaps, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 2, dtype=torch.bool)
    a = torch.tensor([[1.0], [-2.0]], dtype=torch.float64).expand(2, 2)
    plain = reinforce(no_weights, torch.zeros(2, 2), a, mask, importance_weighted=False)
    assert torch.equal(torch.autograd.grad(plain.per_token_BT.sum(), no_weights)[0], -a)


def test_7a_only_the_sum_of_log_ratios_counts() -> None:
    constants = (2.0, 3.0, 3.0, 2.0)
    (row,) = coefficient([[0.3, -0.8, 0.1]], [1], [0], constants)
    assert row == pytest.approx(coefficient([[0.1, 0.3, -0.8]], [1], [0], constants)[0])
    assert row == pytest.approx(coefficient([[0.3, -0.8, 0.1, 0.0, 0.0]], [1], [0], constants)[0][:3])
    doubled = coefficient([[0.3, -0.8, 0.1], [0.3, -0.8, 0.1]], [1, 1], [0, 0], constants)[0][0]
    assert doubled == pytest.approx(phi(math.exp(-0.4) ** 2, 2, 3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_7a_no_overflow(dtype: torch.dtype) -> None:
    for c1, c2 in ((2.0, 3.0), (3.0, 2.0)):
        far = gamma_kernel(torch.tensor([1000.0, -1000.0, float("inf")], dtype=dtype), c1, c2)
        assert far.dtype == (dtype if dtype == torch.float64 else torch.float32)
        assert far[0] == far[2] == 0 and 0 <= far[1] < 1e-14
    assert gamma_kernel(torch.tensor([0.5], dtype=dtype), 2.0, 3.0).item() == pytest.approx(phi(math.exp(0.5), 2, 3))
    assert not gamma_kernel(torch.zeros(1, requires_grad=True), 2.0, 3.0).requires_grad
    values = coefficient([[900.0, 900.0], [-900.0, 0.0]], [1, -1], [0, 1], (2, 3, 3, 2))
    assert values[0] == [0.0, 0.0] and 0 <= values[1][0] < 1e-14


@pytest.mark.parametrize(
    ("s", "c1", "c2", "mean", "square", "share"),
    [
        (1.0, 2, 3, 0.7046, 0.6596, 0.753),
        (1.0, 3, 2, 0.5044, 0.4384, 0.580),
        (2.0, 2, 3, None, None, 0.411),
        (2.0, 3, 2, None, None, 0.240),
    ],
)
def test_7a_monte_carlo(s: float, c1: float, c2: float, mean: float | None, square: float | None, share: float) -> None:
    # Expectations over a normal log-weight, by quadrature: more exact than sampling, and faster.
    z = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    density = (-z.square() / 2).exp()
    density = density / density.sum()
    values = gamma_kernel(s * z - s * s / 2, c1, c2)
    first, second = float((density * values).sum()), float((density * values.square()).sum())
    assert first**2 / second == pytest.approx(share, rel=0.01)
    if mean is not None and square is not None:
        assert (first, second) == (pytest.approx(mean, rel=0.01), pytest.approx(square, rel=0.01))


@given(st.floats(-50, 50), st.sampled_from([-3.0, -0.1, 0.2, 2.0]))
def test_7a_the_coefficient_of_a_gradient_is_bounded(log_weight: float, advantage: float) -> None:
    (row,) = coefficient([[log_weight]], [advantage], [0], (2.0, 3.0, 3.0, 2.0))
    assert 0 <= row[0] <= (1.208126 if advantage > 0 else 1.241594)


def test_the_sign_is_that_of_the_whole_trajectory() -> None:
    # Two rows of one trajectory with advantages 1 and -3: the mean is negative, so both use the negative constants.
    got = coefficient([[0.2, 0.2], [0.1, 0.1]], [1.0, -3.0], [5, 5], (2.0, 3.0, 3.0, 2.0))
    assert [value for row in got for value in row] == pytest.approx([phi(math.exp(0.6), 3, 2)] * 4)


def test_dead_and_heavy_sequences_are_counted() -> None:
    new = torch.tensor([[5.0], [5.0], [0.0]], dtype=torch.float64)
    a = torch.tensor([[1.0], [-1.0], [-1.0]], dtype=torch.float64)
    terms = build("vespo").objective.function(
        new, torch.zeros_like(new), a, new < 9, sequence_B=torch.arange(3), **build("vespo").objective_params
    )
    assert terms.diagnostics["phi_dead"].mean() == pytest.approx(2 / 3)
    assert terms.diagnostics["phi_heavy"].mean() == 0.5
