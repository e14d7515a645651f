"""A run looks at itself: is what was sampled what is trained on, with the weights it claims, by the loss it claims?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from askesis.engines import Engine
from askesis.errors import SelfCheckError
from askesis.learners import GradientLearner, Sample, TokenTable, rows_of
from askesis.learners.evolution import EvolutionLearner
from askesis.policy.loading import weights_hash

__all__ = ["CheckResult", "require", "run_checks", "run_evolution_checks"]

_PROBE = 32
_SPLIT_TOLERANCE = 1e-3
_SMALL_PIECE = 512
_LAYOUT_TOLERANCE = {torch.float32: 1e-3}
_LAYOUT_TOLERANCE_COARSE = 0.1
"""Nats; for models in half precision, whose own attention rounds as much."""

_NOISE_REACHED = 0.9
"""Cosine. In bfloat16 at sigma 1e-3 and weights of 0.02 it is 0.998; where it is low, members hardly differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One check. ``cause`` names the likely reason and what to do, for when it fails."""

    name: str
    passed: bool
    detail: str
    cause: str


def run_checks(
    engine: Engine, learner: GradientLearner, samples: Sequence[Sample], *, max_drift: float
) -> list[CheckResult]:
    """All checks on freshly sampled ``samples``, before the weights change. Changes nothing."""
    probe = list(samples[:_PROBE])
    checks = [_weights(engine, learner), _masks(probe), _drift(learner, probe, max_drift), _split(learner, samples)]
    return [*checks, _layout(learner, probe)] if learner.settings.packed else checks


def run_evolution_checks(engine: Engine, learner: EvolutionLearner) -> list[CheckResult]:
    """All checks before a population is evaluated. Leaves the weights as they are."""
    before = weights_hash(learner.policy.model)
    member = learner.ask().members[0]
    with learner.wearing(member):
        reached = learner.applied_noise(member)
    after = weights_hash(learner.policy.model)
    return [
        _weights(engine, learner),
        CheckResult(
            name="a member's noise leaves no trace",
            passed=before == after,
            detail=f"sha256 {before[:12]} before, {after[:12]} after",
            cause="the scratch file that holds the centre was changed: check the disk, and report this",
        ),
        CheckResult(
            name="the weights can hold the noise",
            passed=reached >= _NOISE_REACHED,
            detail=f"cosine of intended and applied noise {reached:.4f}, limit {_NOISE_REACHED}",
            cause="policy.dtype rounds most of the noise away: set policy.dtype=float32, or raise "
            "learner.evolution.sigma",
        ),
    ]


def require(results: Sequence[CheckResult], *, step: int) -> None:
    """Raise SelfCheckError for the first check that failed."""
    for result in results:
        if not result.passed:
            raise SelfCheckError(
                f"self-check failed: {result.name}",
                where=f"step {step}",
                got=result.detail,
                next_step=result.cause,
            )


def _weights(engine: Engine, learner: GradientLearner | EvolutionLearner) -> CheckResult:
    theirs, ours = engine.weights_hash(), weights_hash(learner.policy.model)
    same = theirs == ours and engine.version == learner.version
    return CheckResult(
        name="the sampler's weights are the trainer's",
        passed=same,
        detail=f"version {engine.version} / {learner.version}, sha256 {theirs[:12]} / {ours[:12]}",
        cause="the last weight update did not reach the engine: restart the run, and report this",
    )


def _masks(samples: Sequence[Sample]) -> CheckResult:
    """Every token that was sampled is trained on once, and no other."""
    trained = sum(len(row.at) for row in rows_of(samples))
    sampled = sum(s.num_sampled for s in samples)
    return CheckResult(
        name="masks cover exactly the sampled tokens",
        passed=trained == sampled,
        detail=f"{trained} trained, {sampled} sampled, in {len(samples)} traces",
        cause="a trace lost or doubled tokens: run `askesis store verify`",
    )


def _drift(learner: GradientLearner, samples: Sequence[Sample], limit: float) -> CheckResult:
    name = "the learner's log-probabilities are the engine's"
    cause = (
        "engine and learner compute different models: compare policy.dtype, attention kernels and the sampling "
        "temperature; raise training.max_drift only if the difference is understood"
    )
    if learner.settings.truncated:
        detail = "not comparable: sampling cuts the distribution (top_k, top_p)"
        return CheckResult(name=name, passed=True, detail=detail, cause=cause)
    rows = rows_of(samples)
    table = TokenTable.of(rows, learner.policy.device)
    mine_BT = table.mask_BT & (table.version_BT == learner.version)
    if not mine_BT.any():
        return CheckResult(
            name=name, passed=True, detail="not comparable: older weights sampled all of it", cause=cause
        )
    mean = float((learner.score(rows) - table.behaviour_BT)[mine_BT].abs().mean())
    return CheckResult(
        name=name, passed=mean <= limit, detail=f"mean gap {mean:.2e} nats, limit {limit:.0e}", cause=cause
    )


def _split(learner: GradientLearner, samples: Sequence[Sample]) -> CheckResult:
    """The gradient on whole groups, cut in two different ways."""
    groups = list(dict.fromkeys(s.group for s in samples))[: max(1, _PROBE // 8)]
    chosen = [s for s in samples if s.group in groups]
    tokens = learner.settings.micro_batch_tokens
    one = learner.gradient_norm(chosen, micro_batch_tokens=tokens)
    many = learner.gradient_norm(chosen, micro_batch_tokens=min(max(tokens // 3, 1), _SMALL_PIECE))
    close = math.isclose(one, many, rel_tol=_SPLIT_TOLERANCE, abs_tol=1e-9)
    return CheckResult(
        name="the gradient does not depend on the micro-batch split",
        passed=close,
        detail=f"norm {one:.6g} as trained, {many:.6g} in smaller pieces",
        cause="an objective divides by something of its own micro-batch: let aggregation do it",
    )


def _layout(learner: GradientLearner, samples: Sequence[Sample]) -> CheckResult:
    """The packed forest against the model's own attention on each branch."""
    rows = rows_of(samples)
    gap = float((learner.score(rows, packed=True) - learner.score(rows, packed=False)).abs().max())
    limit = _LAYOUT_TOLERANCE.get(learner.policy.model.dtype, _LAYOUT_TOLERANCE_COARSE)
    return CheckResult(
        name="the packed forest scores as its branches do",
        passed=gap <= limit,
        detail=f"largest gap {gap:.1e} nats, limit {limit:.0e}",
        cause="tree attention does not fit this model: set learner.packed=false, and report this",
    )
