"""Every worked number of the method, exact restoration over a thousand steps, and exact resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.errors import AlgorithmError
from askesis.learners.evolution import EvolutionLearner
from askesis.policy.loading import Policy, load_policy, weights_hash

CROSS = [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)]
MakeLearner = Callable[..., EvolutionLearner]
DTYPES = [torch.float16, torch.bfloat16, torch.float32]


def told(learner: EvolutionLearner, *populations: list[float | None]) -> dict[str, float | None]:
    for scores in populations:
        metrics = learner.tell(scores)
    assert metrics is not None
    return metrics


def approx(values: list[float]) -> Any:
    return pytest.approx(values, abs=1e-6)


def test_two_members(bare: Any, make_learner: MakeLearner, table_noise: Any) -> None:
    policy = bare(torch.zeros(3))
    learner = make_learner(policy, population=2, noise=table_noise([(1.0, 0.0, 2.0), (0.0, 1.0, -1.0)]))
    told(learner, [0.9, 0.3])
    assert policy.flat().tolist() == approx([0.5, -0.5, 1.5])


def test_a_cross_of_members(bare: Any, make_learner: MakeLearner, table_noise: Any) -> None:
    policy = bare(torch.zeros(2))
    metrics = told(make_learner(policy, noise=table_noise(CROSS)), [0.9, 0.5, 0.1, 0.5])
    assert policy.flat().tolist() == approx([0.707107, 0.0])
    assert metrics["update_norm"] == pytest.approx(0.707107, abs=1e-6)
    assert metrics["population_spread"] == pytest.approx(0.282843, abs=1e-6)
    assert metrics["population_best"] == 0.9 and metrics["population_failed"] == 0


@pytest.mark.parametrize(("method", "delta"), [("essam", -0.0707107), ("essam_f", -0.1)])
def test_the_displacement(method: str, delta: float, bare: Any, make_learner: MakeLearner, table_noise: Any) -> None:
    policy = bare(torch.zeros(2))
    learner = make_learner(policy, method=method, noise=table_noise(CROSS))
    assert learner.tell([0.9, 0.5, 0.1, 0.5]) is None
    assert policy.flat().tolist() == [0.0, 0.0]  # the centre has not moved
    assert learner.ask().stage == 2
    learner.put_on(learner.ask().members[1])
    assert policy.flat().tolist() == approx([delta, 0.1])  # the second population is drawn around the displaced weights
    metrics = told(learner, [0.5, 0.9, 0.5, 0.1])
    assert policy.flat().tolist() == approx([0.0, 0.707107])  # and its update is applied to the centre
    assert metrics["displacement_norm"] == pytest.approx(-delta, abs=1e-6)
    assert learner.version == 1 and learner.ask().stage == 1


@pytest.mark.parametrize("method", ["es", "essam", "essam_f"])
@given(a=st.floats(0.25, 4), b=st.floats(-2, 2))
@settings(max_examples=10, deadline=None)
def test_only_comparisons_count(method: str, a: float, b: float, bare: Any, make_learner: MakeLearner) -> None:
    scores = [0.9, 0.5, 0.1, 0.4]

    def after(change: Callable[[float], float]) -> torch.Tensor:
        policy = bare(torch.zeros(50))
        learner = make_learner(policy, method=method)
        told(learner, *[[change(s) for s in scores]] * learner.settings.num_stages)
        flat: torch.Tensor = policy.flat()
        return flat

    plain = after(lambda s: s)
    assert torch.allclose(after(lambda s: a * s + b), plain, atol=1e-4)
    assert torch.allclose(after(lambda s: -a * s + b), -plain, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("method", ["es", "essam", "essam_f"])
def test_equal_rewards_change_no_bit(method: str, dtype: torch.dtype, bare: Any, make_learner: MakeLearner) -> None:
    policy = bare(torch.randn(99, generator=torch.Generator().manual_seed(0)).to(dtype), -torch.zeros(3, dtype=dtype))
    before = policy.flat().view(torch.uint8).tolist()
    learner = make_learner(policy, method=method, sigma=1e-3)
    metrics = told(learner, *[[0.3] * 4] * learner.settings.num_stages)
    assert policy.flat().view(torch.uint8).tolist() == before
    assert metrics["update_norm"] == 0.0


def test_without_a_radius_the_second_stage_is_plain_es(bare: Any, make_learner: MakeLearner, table_noise: Any) -> None:
    rewards = [0.2, 0.9, 0.4, 0.1]
    ends = []
    for method, populations in (("essam", [[0.9, 0.5, 0.1, 0.5], rewards]), ("es", [rewards])):
        policy = bare(torch.zeros(2))
        told(make_learner(policy, method=method, rho=0.0, noise=table_noise(CROSS)), *populations)
        ends.append(policy.flat().tolist())
    assert ends[0] == ends[1]


@pytest.mark.parametrize("method", ["essam", "essam_f"])
def test_the_displacement_lowers_the_reward(method: str, bare: Any, make_learner: MakeLearner) -> None:
    weights = torch.randn(200, generator=torch.Generator().manual_seed(3))
    policy = bare(torch.zeros(200))
    learner = make_learner(policy, method=method, population=40, first_population=40)
    scores = []
    for member in learner.ask().members:
        learner.put_on(member)
        scores.append(float(weights @ policy.flat()))
    learner.tell(scores)
    learner.put_on(learner.ask().members[0]._replace(scale=0.0))
    assert float(weights @ policy.flat()) < 0.0


@pytest.mark.parametrize(
    ("dimension", "members", "cosine", "norm"),
    [(1000, 30, 0.171, 5.86), (10_000, 30, 0.054, 18.28), (1000, 200, 0.408, 2.45)],
)
def test_the_update_on_a_linear_reward(
    dimension: int, members: int, cosine: float, norm: float, bare: Any, make_learner: MakeLearner, step: Any
) -> None:
    """E[u] = g / |g|, |u| = sqrt(1 + d / N), cosine sqrt(N / (N + d)), whatever the scale of the reward."""
    gradient = torch.zeros(dimension)
    gradient[0] = 1.0
    trials = max(4, 600 // members)
    cosines, norms, along = [], [], []
    for seed in range(trials):
        policy = bare(torch.zeros(dimension))
        learner = make_learner(policy, population=members, sigma=1e-3, seed=seed)
        metrics = step(learner, lambda w: float(7.0 * gradient @ w), policy)
        u = policy.flat()
        norms.append(metrics["update_norm"])
        along.append(float(gradient @ u))
        cosines.append(float(gradient @ u / u.norm()))
    assert sum(norms) / trials == pytest.approx(norm, rel=0.05)
    assert sum(cosines) / trials == pytest.approx(cosine, rel=0.12)
    assert sum(along) / trials == pytest.approx(1.0, rel=0.15)


def test_the_sharp_direction_is_amplified(bare: Any, make_learner: MakeLearner, step: Any) -> None:
    """Exact gradients: F = -(100 x^2 + y^2) / 2 at (0.1, 1), rho 0.05: theta~ = (0.149752, 1.004975)."""
    x, y, rho = 0.1, 1.0, 0.05
    gradient = torch.tensor([-100 * x, -y], dtype=torch.float64)
    displaced = torch.tensor([x, y]) - rho * gradient / gradient.norm()
    assert displaced.tolist() == approx([0.149752, 1.004975])
    policy = bare(torch.tensor([x, y], dtype=torch.float64))
    learner = make_learner(
        policy, method="essam_f", population=2000, first_population=2000, sigma=1e-4, rho=rho, alpha=0.0
    )
    scores = []
    for member in learner.ask().members:
        learner.put_on(member)
        a, b = policy.flat().tolist()
        scores.append(-(100 * a * a + b * b) / 2)
    learner.tell(scores)
    learner.put_on(learner.ask().members[0]._replace(scale=0.0))
    assert policy.flat().tolist() == pytest.approx([0.149752, 1.004975], abs=0.004)
    a, b = policy.flat().tolist()
    assert -100 * a == pytest.approx(-14.9752, abs=0.1) and -b == pytest.approx(-1.0050, abs=0.01)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_thousand_steps_without_a_rate_leave_every_bit(
    dtype: torch.dtype, bare: Any, make_learner: MakeLearner
) -> None:
    """Subtracting the noise again would have spoilt bfloat16 after one population."""
    policy = bare((0.02 * torch.randn(500, generator=torch.Generator().manual_seed(2))).to(dtype))
    learner = make_learner(policy, sigma=1e-3, alpha=0.0, population=2)
    before = policy.flat().view(torch.uint8).tolist()
    for _ in range(1000):
        for member in learner.ask().members:
            learner.put_on(member)
        assert policy.flat().view(torch.uint8).tolist() != before
        learner.restore()
        learner.tell([0.1, 0.9])
    assert policy.flat().view(torch.uint8).tolist() == before
    assert learner.version == 1000


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_steps_add_up_in_any_type(dtype: torch.dtype, bare: Any, make_learner: MakeLearner) -> None:
    """Each step is far below the rounding of bfloat16 weights of size 1; added to them directly it would be lost."""
    policy = bare(torch.ones(400, dtype=dtype))
    exact = bare(torch.ones(400, dtype=torch.float64))
    for each in (policy, exact):
        learner = make_learner(each, sigma=1e-2, alpha=1e-4, population=2, seed=1)
        for _ in range(600):
            learner.tell([1.0, 0.0])
    moved, meant = policy.flat().double() - 1, exact.flat() - 1
    rounding = torch.finfo(dtype).eps
    assert float(meant.abs().max()) > 1e-3
    assert float((moved - meant).abs().max()) <= rounding + 1e-5  # float32 rounds each of the 600 steps


def test_opposite_pairs_share_their_noise(bare: Any, make_learner: MakeLearner) -> None:
    policy = bare(torch.zeros(30))
    learner = make_learner(policy, antithetic=True, population=4)
    members = learner.ask().members
    assert [m.seed for m in members] == [members[0].seed] * 2 + [members[2].seed] * 2
    worn = []
    for member in members:
        learner.put_on(member)
        worn.append(policy.flat())
    assert torch.equal(worn[0], -worn[1]) and not torch.equal(worn[0], worn[2])
    told(learner, [1.0, 0.0, 0.5, 0.5])
    assert torch.allclose(policy.flat(), worn[0] / 0.1 * math.sqrt(2) / 2, atol=1e-5)


def test_seeds_are_named_by_run_step_and_stage(bare: Any, make_learner: MakeLearner) -> None:
    learner = make_learner(bare(torch.zeros(3)), method="essam")
    seen = []
    for _ in range(3):
        for _ in range(2):
            seen += [m.seed for m in learner.ask().members]
            learner.tell([0.1, 0.2, 0.3, 0.4])
    assert len(set(seen)) == len(seen) == 24
    other = make_learner(bare(torch.zeros(3)), method="essam", seed=1)
    assert not {m.seed for m in other.ask().members} & set(seen)


def test_an_ablation_takes_rewards_as_they_are(bare: Any, make_learner: MakeLearner, table_noise: Any) -> None:
    policy = bare(torch.zeros(2))
    told(make_learner(policy, compares=False, noise=table_noise(CROSS)), [1.0, 0.5, 0.0, 0.5])
    assert policy.flat().tolist() == approx([0.25, 0.0])


@pytest.mark.parametrize("scores", [[0.1, 0.2, 0.3], [0.1, 0.2, 0.3, math.nan]])
def test_scores_of_another_population_are_refused(scores: list[float], bare: Any, make_learner: MakeLearner) -> None:
    policy = bare(torch.zeros(3))
    learner = make_learner(policy)
    with pytest.raises(AlgorithmError, match="do not belong"):
        learner.tell(scores)
    assert policy.flat().tolist() == [0.0] * 3 and learner.version == 0


def test_failed_members_take_no_part(bare: Any, make_learner: MakeLearner, table_noise: Any) -> None:
    policy = bare(torch.zeros(2))
    metrics = told(make_learner(policy, noise=table_noise(CROSS)), [0.9, None, 0.1, None])
    assert policy.flat().tolist() == approx([0.5, 0.0])
    assert metrics["population_failed"] == 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_learner_ends_in_the_same_bits(dtype: str, tiny_folder: object, make_learner: MakeLearner) -> None:
    def learner() -> EvolutionLearner:
        policy = load_policy(str(tiny_folder), device="cpu", dtype=dtype)
        return make_learner(policy, method="essam", sigma=1e-2, alpha=1e-3)

    def steps(agent: EvolutionLearner, first: int, last: int) -> None:
        for n in range(first, last):
            told(agent, [0.1, 0.4, n / 9, 0.2], [0.3, 0.1, 0.2, n / 7])

    whole = learner()
    steps(whole, 0, 6)
    begun = learner()
    steps(begun, 0, 3)
    tensors, values = begun.state_dict()
    resumed = learner()
    with torch.no_grad():
        for (_, mine), (_, saved) in zip(resumed.policy.trainable(), begun.policy.trainable(), strict=True):
            mine.copy_(saved)
    resumed.load_state_dict(tensors, values)
    steps(resumed, 3, 6)
    assert weights_hash(resumed.policy.model) == weights_hash(whole.policy.model)
    assert bool(tensors) == (dtype == "bfloat16")


def test_a_policy_wears_a_member_and_takes_it_off(tiny: Policy, make_learner: MakeLearner) -> None:
    learner = make_learner(tiny, sigma=1e-2)
    before = weights_hash(tiny.model)
    first, second = learner.ask().members[:2]
    with learner.wearing(first):
        worn = weights_hash(tiny.model)
        assert learner.applied_noise(first) == pytest.approx(1.0, abs=1e-6)
        assert abs(learner.applied_noise(second)) < 0.1
    with learner.wearing(second):
        learner.put_on(first)
        assert weights_hash(tiny.model) == worn
    assert weights_hash(tiny.model) == before != worn


def test_adapters_evolve_alone(tiny_folder: object, make_learner: MakeLearner) -> None:
    pytest.importorskip("peft")
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=2)
    frozen = {n: p.clone() for n, p in policy.model.named_parameters() if not p.requires_grad}
    learner = make_learner(policy, sigma=1e-2)
    start = {n: p.detach().clone() for n, p in policy.trainable()}
    told(learner, [0.1, 0.4, 0.3, 0.2])
    assert all(torch.equal(p, frozen[n]) for n, p in policy.model.named_parameters() if n in frozen)
    assert all(not torch.equal(p, start[n]) for n, p in policy.trainable())


def test_it_describes_itself(bare: Any, make_learner: MakeLearner) -> None:
    assert make_learner(bare(torch.zeros(2))).describe()["method"] == "es"
    assert make_learner(bare(torch.zeros(2)), method="essam").describe()["rho"] == 0.1
