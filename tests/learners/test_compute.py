"""Weights, gradients and optimiser in this process. The learner around it: tests/learners/test_gradient.py."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from askesis.algorithms import build
from askesis.errors import CheckpointError
from askesis.learners import rows_of
from askesis.learners.batch import Sample
from askesis.learners.compute import LearnerSettings, LocalCompute, needs_reference, optimizer_states
from askesis.learners.shares import Piece
from askesis.policy.loading import Policy
from askesis.trace import Call, StopReason, TraceBuilder


def piece(factor: float = 1.0) -> Piece:
    """Two tokens of one answer, whose log-probabilities are to rise by ``factor``."""
    trace = TraceBuilder([Call(key=0, context=[5, 6], sampled=[7, 8], logprobs=[-1.0, -1.0])]).finish(
        StopReason.TERMINATED
    )
    rows = rows_of([Sample(trace_id="a", trace=trace, reward=1.0, group=0)])
    table = torch.zeros(1, 2)
    known = dict.fromkeys(("behaviour_BT", "advantage_BT", "weight_BT"), table)
    passed = torch.full((1, 2), -factor)
    sequence = torch.zeros(1, dtype=torch.int64)
    return Piece(cut=[0], rows=tuple(rows), mask_BT=table == 0, sequence_B=sequence, passed_BT=passed, **known)


def compute_of(policy: Policy, **changes: float) -> LocalCompute:
    return LocalCompute(policy, build("grpo", {"kl_beta": 0.0}), LearnerSettings(**{"lr": 1e-3, **changes}))


def score(compute: LocalCompute, pieces: Sequence[Piece]) -> float:
    return float(compute.scores(pieces[0].rows).logp_BT.sum())


def test_a_step_goes_down_the_gradient_of_the_pieces_of_now(tiny: Policy) -> None:
    compute = compute_of(tiny)
    before = score(compute, [piece()])
    compute.accumulate([piece(-100.0)])  # forgotten by the next line
    compute.accumulate([piece(), piece()])
    twice = compute.norm()
    compute.accumulate([piece()])
    norm = compute.step(1e-3)
    assert twice == pytest.approx(2 * norm, rel=1e-5)
    assert score(compute, [piece()]) > before


def test_a_gradient_that_is_not_finite_makes_no_step(tiny: Policy) -> None:
    compute = compute_of(tiny)
    before = score(compute, [piece()])
    compute.accumulate([piece(math.inf)])
    assert not math.isfinite(compute.step(1e-3))
    assert score(compute, [piece()]) == before
    assert compute.state_dict() == {}


def test_states_belong_to_parameters(tiny: Policy) -> None:
    compute = compute_of(tiny)
    compute.accumulate([piece()])
    compute.step(1e-3)
    states = optimizer_states(compute.state_dict(), [name for name, _ in tiny.trainable()])
    assert {key for state in states.values() for key in state} == {"step", "exp_avg", "exp_avg_sq"}
    with pytest.raises(CheckpointError, match="another model"):
        optimizer_states({"step/elsewhere": torch.zeros(())}, ["here"])
    assert optimizer_states({"critic:weight": torch.zeros(3)}, []) == {}


def test_who_compares_with_the_start() -> None:
    assert needs_reference(build("grpo", {"kl_beta": 0.1})) and needs_reference(build("dgpo_hellinger"))
    assert not needs_reference(build("grpo", {"kl_beta": 0.0}))
