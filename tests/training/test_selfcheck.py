"""Self-checks pass on a sound run and name the cause when something is off."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from askesis.algorithms import LossTerms, build
from askesis.engines import Request, Sampling
from askesis.engines.embedded import EmbeddedEngine, sample_batch
from askesis.errors import SelfCheckError
from askesis.learners import GradientLearner, LearnerSettings, Sample
from askesis.learners.evolution import EvolutionLearner, EvolutionSettings
from askesis.policy.forest import Forest
from askesis.policy.loading import Policy, load_policy
from askesis.policy.tree_attention import TreeMask
from askesis.trace import Call, StopReason, TraceBuilder
from askesis.training.selfcheck import require, run_checks, run_evolution_checks


def sampled(policy: Policy) -> list[Sample]:
    requests = [
        Request(prefix=(5, 6), sampling=Sampling(max_tokens=4 + i % 5), stop_ids=(257,), seed=i) for i in range(12)
    ]
    return [
        Sample(
            trace_id=str(i),
            trace=TraceBuilder([Call(key=0, context=r.prefix, sampled=d.tokens, logprobs=d.logprobs)]).finish(
                StopReason.TERMINATED
            ),
            reward=float(i % 3),
            group=i // 4,
        )
        for i, (r, d) in enumerate(zip(requests, sample_batch(policy, requests), strict=True))
    ]


def learner(policy: Policy, **changes: object) -> GradientLearner:
    settings = LearnerSettings(**{"lr": 1e-3, **changes})  # type: ignore[arg-type]
    return GradientLearner(policy, build("grpo", {"kl_beta": 0.0}), settings)


def failed(engine: EmbeddedEngine, agent: GradientLearner, samples: list[Sample]) -> list[str]:
    return [r.name for r in run_checks(engine, agent, samples, max_drift=1e-3) if not r.passed]


def test_a_sound_run_passes_and_nothing_changes(tiny: Policy) -> None:
    agent, engine, samples = learner(tiny), EmbeddedEngine(tiny), sampled(tiny)
    before = engine.weights_hash()
    results = run_checks(engine, agent, samples, max_drift=1e-3)
    assert [r.passed for r in results] == [True] * 5
    assert all(r.detail and r.cause for r in results)
    require(results, step=0)
    assert engine.weights_hash() == before


def test_other_weights_in_the_engine_are_found(tiny: Policy, tiny_folder: object) -> None:
    other = load_policy(str(tiny_folder), device="cpu")
    with torch.no_grad():
        other.trainable()[0][1].add_(1e-3)
    assert failed(EmbeddedEngine(other), learner(tiny), sampled(tiny)) == ["the sampler's weights are the trainer's"]
    engine = EmbeddedEngine(tiny)
    engine.publish(5)
    assert failed(engine, learner(tiny), sampled(tiny)) == ["the sampler's weights are the trainer's"]


def test_a_wrong_temperature_is_found_as_drift(tiny: Policy) -> None:
    samples = sampled(tiny)
    names = failed(EmbeddedEngine(tiny), learner(tiny, temperature=0.5), samples)
    assert names == ["the learner's log-probabilities are the engine's"]
    results = run_checks(EmbeddedEngine(tiny), learner(tiny, temperature=0.5), samples, max_drift=1e-3)
    with pytest.raises(SelfCheckError, match="log-probabilities") as caught:
        require(results, step=7)
    assert caught.value.where == "step 7" and "temperature" in str(caught.value.next_step)


def test_a_packed_layout_that_sees_too_much_is_found(tiny: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, samples = learner(tiny), sampled(tiny)
    whole = TreeMask.of
    monkeypatch.setattr(TreeMask, "of", lambda forest, device: whole(_blind(forest), device))
    assert "the packed forest scores as its branches do" in failed(EmbeddedEngine(tiny), agent, samples)
    plain = learner(tiny, packed=False)
    assert failed(EmbeddedEngine(tiny), plain, samples) == []


def _blind(forest: Forest) -> Forest:
    """Every token sees all that comes before it, as if the forest were one sequence."""
    size = len(forest.ids_N)
    return dataclasses.replace(
        forest,
        start_R=forest.start_R[:1],
        stop_R=forest.stop_R[-1:],
        end_R=forest.stop_R[-1:],
        level_R=forest.level_R[:1],
        end_N=forest.end_N * 0 + size,
    )


def test_an_objective_that_divides_by_its_own_micro_batch_is_found(tiny: Policy) -> None:
    agent = learner(tiny, micro_batch_tokens=40)
    sound = agent.algorithm.objective

    def dividing(
        logp_new: torch.Tensor, logp_old: torch.Tensor, advantage: torch.Tensor, mask: torch.Tensor, **params: Any
    ) -> LossTerms:
        terms = sound.function(logp_new, logp_old, advantage, mask, **params)
        return dataclasses.replace(terms, per_token_BT=terms.per_token_BT / mask.sum())

    objective = dataclasses.replace(sound, function=dividing)
    broken = GradientLearner(tiny, dataclasses.replace(agent.algorithm, objective=objective), agent.settings)
    assert failed(EmbeddedEngine(tiny), broken, sampled(tiny)) == [
        "the gradient does not depend on the micro-batch split"
    ]


def test_truncated_sampling_is_not_compared(tiny: Policy) -> None:
    results = run_checks(
        EmbeddedEngine(tiny), learner(tiny, temperature=0.5, truncated=True), sampled(tiny), max_drift=1e-3
    )
    assert all(r.passed for r in results) and any("not comparable" in r.detail for r in results)


def evolution(policy: Policy, sigma: float = 1e-2) -> EvolutionLearner:
    return EvolutionLearner(
        policy,
        EvolutionSettings(method="es", population=2, first_population=0, sigma=sigma, alpha=1e-3, rho=0.0),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_evolution_passes_and_nothing_changes(dtype: str, tiny_folder: object) -> None:
    policy = load_policy(str(tiny_folder), dtype=dtype, device="cpu")
    engine, agent = EmbeddedEngine(policy), evolution(policy)
    before = engine.weights_hash()
    assert [r.passed for r in run_evolution_checks(engine, agent)] == [True] * 3
    assert engine.weights_hash() == before


def test_noise_that_the_weights_cannot_hold_is_found(tiny_folder: object) -> None:
    policy = load_policy(str(tiny_folder), dtype="bfloat16", device="cpu")
    failed = [r.name for r in run_evolution_checks(EmbeddedEngine(policy), evolution(policy, 1e-6)) if not r.passed]
    assert failed == ["the weights can hold the noise"]


def test_a_centre_that_was_tampered_with_is_found(tiny: Policy) -> None:
    agent = evolution(tiny)
    block = next(agent._centre.blocks())
    agent._centre.write(block, block.weights + 1.0)
    failed = [r.name for r in run_evolution_checks(EmbeddedEngine(tiny), agent) if not r.passed]
    assert "a member's noise leaves no trace" in failed
