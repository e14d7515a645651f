"""The gradient learner: the same loss however it is cut, the right direction, exact resume."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch

from askesis.algorithms import PRESETS, AdvantageReport, Algorithm, RewardBatch, build
from askesis.engines import Request, Sampling
from askesis.engines.embedded import sample_batch
from askesis.errors import AlgorithmError, CheckpointError
from askesis.learners import CriticSettings, GradientLearner, LearnerSettings, Sample, rows_of
from askesis.policy.loading import Policy, load_policy, save_policy, weights_hash
from askesis.trace import Call, StateScore, StopReason, TraceBuilder
from tiny_model import write_tiny_model

Fresh = Callable[[], Policy]

SIMPLE = ["reinforce", "rloo", "grpo", "dr_grpo"]
ALL = [preset.name for preset in PRESETS]


def samples(policy: Policy, *, sampling: Sampling | None = None, num_groups: int = 3, size: int = 4) -> list[Sample]:
    """Really sampled answers of different lengths; the reward is the share of even tokens."""
    requests = [
        Request(
            prefix=tuple(range(2, 5 + g)),
            sampling=sampling or Sampling(max_tokens=4 + 3 * m),
            stop_ids=policy.template.stop_ids,
            seed=100 * g + m,
        )
        for g in range(num_groups)
        for m in range(size)
    ]
    result = []
    for place, (request, done) in enumerate(zip(requests, sample_batch(policy, requests), strict=True)):
        call = Call(key=0, context=request.prefix, sampled=done.tokens, logprobs=done.logprobs)
        reward = sum(t % 2 == 0 for t in done.tokens) / len(done.tokens)
        trace = TraceBuilder([call]).finish(StopReason.TERMINATED)
        result.append(Sample(trace_id=str(place), trace=trace, reward=reward, group=place // size, states=scored(0.25)))
    return result


def scored(*values: float) -> tuple[StateScore, ...]:
    """Scores of a trace's first states, each of which one call led to."""
    return tuple(StateScore(state=i, after=i - 1 if i else None, value=v) for i, v in enumerate(values))


def learner(
    policy: Policy, name: str = "grpo", options: dict[str, object] | None = None, **changes: object
) -> GradientLearner:
    algorithm = build(name, {"kl_beta": 0.0, **(options or {})})
    critic = CriticSettings() if algorithm.has_critic else None
    settings = LearnerSettings(**{"lr": 1e-3, "total_steps": 10, "critic": critic, **changes})  # type: ignore[arg-type]
    return GradientLearner(policy, algorithm, settings)


def advantages(algorithm: Algorithm, batch: list[Sample]) -> list[float]:
    rewards = RewardBatch(
        reward_B=torch.tensor([s.reward for s in batch]), group_B=torch.tensor([s.group for s in batch])
    )
    return algorithm.advantages(rewards).advantage_B.tolist()


@pytest.fixture(scope="module")
def batch(fresh_tiny: Fresh) -> list[Sample]:
    """Sampled once, by the weights that every test starts from; nothing changes them."""
    return samples(fresh_tiny())


@pytest.mark.parametrize("name", ALL)
def test_the_gradient_does_not_depend_on_the_micro_batch_split_or_the_layout(
    name: str, batch: list[Sample], fresh_tiny: Fresh
) -> None:
    gradients = []
    for tokens, packed in ((1 << 20, False), (40, True), (1, True)):
        policy = fresh_tiny()
        report = learner(policy, name, micro_batch_tokens=tokens, packed=packed, max_grad_norm=1e9).update(batch)
        gradients.append(torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None]))
        assert report.metrics["drift"] == pytest.approx(0.0, abs=1e-4)
    size = float(gradients[0].norm())
    for other in gradients[1:]:
        assert float((gradients[0] - other).norm()) < 1e-5 * size


def forked(policy: Policy) -> list[Sample]:
    """Four trajectories of two groups, each with a fork and a second root: three rows of its own."""
    result = []
    for number in range(4):
        first = [number, 4, 5]
        calls = [(first, 5), ([*first, 7], 4), ([9, 9, number], 6)]
        done = sample_batch(
            policy,
            [
                Request(prefix=tuple(c), sampling=Sampling(max_tokens=n), stop_ids=(), seed=10 * number + i)
                for i, (c, n) in enumerate(calls)
            ],
        )
        trace = TraceBuilder(
            Call(key=i, context=c, sampled=d.tokens, logprobs=d.logprobs)
            for i, ((c, _), d) in enumerate(zip(calls, done, strict=True))
        ).finish(StopReason.TERMINATED)
        states = scored(0.2, 0.1 * number)
        reward = number * number / 9
        result.append(Sample(trace_id=str(number), trace=trace, reward=reward, group=number // 2, states=states))
    return result


@pytest.fixture(scope="module")
def trees(fresh_tiny: Fresh) -> list[Sample]:
    """See :func:`forked`; sampled once."""
    return forked(fresh_tiny())


COUPLED = ("grpo", "gspo", "vespo", "ppo", "dgpo_hellinger", "gigpo_aem", "oases")
"""Presets whose losses couple tokens in different ways: every time; the others when they are asked for."""


@pytest.mark.parametrize(
    ("packed", "name"),
    [
        *((True, name) if name in COUPLED else pytest.param(True, name, marks=pytest.mark.opt_in) for name in ALL),
        (False, "grpo"),
        (False, "vespo"),
    ],
)
def test_a_trajectory_may_be_cut_whatever_the_objective(
    name: str, packed: bool, trees: list[Sample], fresh_tiny: Fresh
) -> None:
    """Also for objectives that need the whole trajectory at once, and off policy, where their ratios differ from 1."""
    gradients, reports = [], []
    lr = 1e-6 if name == "gspo" else 1e-3  # its bounds are so tight that a larger step clips every trajectory
    for tokens in (1, 1 << 20):
        policy = fresh_tiny()
        agent = learner(policy, name, lr=lr, micro_batch_tokens=tokens, packed=packed, epochs=2, max_grad_norm=1e9)
        reports.append(agent.update(trees).metrics)
        gradients.append(torch.cat([p.grad.flatten() for _, p in policy.trainable() if p.grad is not None]))
    size = float(gradients[1].norm())
    assert float((gradients[0] - gradients[1]).norm()) < 1e-3 * size
    for metric in ("loss", "entropy", "ess_sequence", "num_trained_tokens"):
        assert [r[metric] for r in reports] == pytest.approx([reports[1][metric]] * 2, rel=1e-3, abs=1e-6)


def test_threads_change_nothing_but_low_order_bits(batch: list[Sample], fresh_tiny: Fresh) -> None:
    weights, norms = [], []
    for threads in (1, 2, 2, 3):
        policy = fresh_tiny()
        agent = learner(policy, "grpo", {"kl_beta": 0.1}, threads=threads, micro_batch_tokens=60, lr=1e-4)
        norms.append([agent.update(batch).metrics["grad_norm"] for _ in range(2)])
        weights.append(torch.cat([p.detach().flatten() for _, p in policy.trainable()]))
    assert torch.equal(weights[1], weights[2])  # the same bits each time, whichever thread is faster
    assert all(n == pytest.approx(norms[0], rel=1e-3) for n in norms)


def test_drift_is_watched_only_while_the_weights_are_those_that_sampled(tiny: Policy) -> None:
    agent, batch = learner(tiny), samples(tiny)
    assert agent.update(batch).metrics["drift"] is not None
    assert agent.update(batch).metrics["drift"] is None  # the same answers, one version later


def test_schedules_see_how_far_training_is(tiny: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, seen = learner(tiny, total_steps=4), []
    advantages_of = Algorithm.advantages

    def watch(self: Algorithm, rewards: RewardBatch) -> AdvantageReport:
        seen.append(rewards.progress)
        return advantages_of(self, rewards)

    monkeypatch.setattr(Algorithm, "advantages", watch)
    for _ in range(5):
        agent.update(samples(tiny))
    assert seen == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_only_the_speed_changes_with_the_layout(fresh_tiny: Fresh) -> None:
    """The same curves over ten updates: losses, entropies, gradient norms, and in the end the weights."""
    batches = [samples(fresh_tiny(), num_groups=g) for g in (2, 3)]
    curves, weights = [], []
    for packed in (True, False):
        policy = fresh_tiny()
        agent = learner(policy, "grpo", {"kl_beta": 0.1}, packed=packed, updates_per_step=2, lr=1e-4)
        reports = [agent.update(batches[i % 2]).metrics for i in range(5)]
        curves.append([r[name] for r in reports for name in ("loss", "grad_norm", "entropy", "kl", "ratio")])
        weights.append(torch.cat([p.detach().flatten() for _, p in policy.trainable()]))
    assert curves[0] == pytest.approx(curves[1], rel=1e-3, abs=1e-5)
    assert float((weights[0] - weights[1]).abs().max()) < 1e-4


@pytest.mark.parametrize("name", SIMPLE)
def test_rewarded_answers_become_more_probable(name: str, tiny: Policy) -> None:
    batch = samples(tiny)
    rows = rows_of(batch)
    agent = learner(tiny, name, lr=1e-4)
    before = agent.score(rows).sum(1).tolist()
    advantages = agent.update(batch).advantages
    after = agent.score(rows).sum(1).tolist()
    gain = sum(a * (x - y) for a, x, y in zip(advantages, after, before, strict=True))
    assert gain > 0
    assert agent.version == 1


def test_the_gradient_is_that_of_one_plain_pass(tiny: Policy) -> None:
    """REINFORCE written out with one sequence at a time."""
    batch = samples(tiny, num_groups=1, size=3)
    agent = learner(tiny, "reinforce", lr=1e-30, max_grad_norm=1e9)
    expected = torch.zeros(())
    for sample in batch:
        call = sample.trace.calls[0]
        ids = torch.tensor([[*call.context.tolist(), *call.sampled.tolist()]])
        logits = tiny.model(input_ids=ids).logits[0, len(call.context) - 1 : -1]
        logp = logits.log_softmax(-1).gather(-1, torch.tensor(call.sampled.tolist())[:, None]).sum()
        expected = expected - sample.reward * logp / len(batch)
    tiny.model.zero_grad()
    expected.backward()
    wanted = math.sqrt(sum(float((p.grad**2).sum()) for _, p in tiny.trainable() if p.grad is not None))
    assert agent.update(batch).metrics["grad_norm"] == pytest.approx(wanted, rel=1e-4)


def test_the_temperature_of_sampling_is_the_learners(tiny: Policy) -> None:
    batch = samples(tiny, sampling=Sampling(temperature=0.6, max_tokens=9))
    assert learner(tiny, temperature=0.6).update(batch).metrics["drift"] == pytest.approx(0.0, abs=1e-4)
    drifted = learner(tiny, temperature=1.0).update(batch).metrics["drift"]
    assert drifted is not None and drifted > 0.01


def test_truncated_sampling_is_scored_anew(tiny: Policy) -> None:
    batch = samples(tiny, sampling=Sampling(top_k=3, max_tokens=9))
    metrics = learner(tiny, truncated=True).update(batch).metrics
    assert metrics["drift"] is None
    assert metrics["ratio"] == pytest.approx(1.0, abs=1e-4)


def test_the_kl_penalty_pulls_back_to_where_it_started(tiny: Policy) -> None:
    batch = samples(tiny)
    agent = learner(tiny, "grpo", {"kl_beta": 0.5})
    first = agent.update(batch).metrics["kl"]
    second = agent.update(batch).metrics["kl"]
    assert first == pytest.approx(0.0, abs=1e-6)
    assert second is not None and second > 1e-6


def test_the_kl_in_the_reward_needs_a_reference_and_has_one(tiny: Policy) -> None:
    agent, plain = learner(tiny, "rloo", {"kl_beta": 0.5}, lr=1e-2), build("rloo", {"kl_beta": 0.0})
    batch = samples(tiny)
    assert agent.update(batch).advantages == pytest.approx(advantages(plain, batch), abs=1e-3)
    later = samples(tiny)
    assert agent.update(later).advantages != pytest.approx(advantages(plain, later), abs=1e-2)


def test_saved_and_restored_state_continues_bit_for_bit(fresh_tiny: Fresh) -> None:
    policy = fresh_tiny()
    batches = [samples(policy), samples(policy, size=5)]
    agent = learner(policy, schedule="cosine", warmup_steps=2)
    agent.update(batches[0])
    weights = copy.deepcopy(policy.model.state_dict())
    tensors, values = agent.state_dict()
    agent.update(batches[1])
    fresh = fresh_tiny()
    fresh.model.load_state_dict(weights)
    resumed = learner(fresh, schedule="cosine", warmup_steps=2)
    resumed.load_state_dict(tensors, values)
    resumed.update(batches[1])
    assert weights_hash(fresh.model) == weights_hash(policy.model)
    assert resumed.version == agent.version == 2


def test_nothing_to_learn_from_is_an_error(tiny: Policy) -> None:
    with pytest.raises(AlgorithmError, match="nothing to learn from"):
        learner(tiny).update([])


def test_state_of_another_model_is_refused(tiny: Policy) -> None:
    agent = learner(tiny)
    with pytest.raises(CheckpointError, match="another model"):
        agent.load_state_dict({"exp_avg/nowhere": torch.zeros(1)}, {})


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone(tiny: Policy) -> None:
    batch = samples(tiny)
    weight = tiny.model.get_input_embeddings().weight
    with torch.no_grad():
        weight[batch[0].trace.calls[0].context[0].item()] = 1e38
    before = weights_hash(tiny.model)
    with pytest.raises(AlgorithmError, match="finite"):
        learner(tiny).update(batch)
    assert weights_hash(tiny.model) == before


def test_several_updates_cut_the_batch_by_group(tiny: Policy) -> None:
    agent = learner(tiny, updates_per_step=3)
    metrics = agent.update(samples(tiny)).metrics
    tensors, values = agent.state_dict()
    assert values["num_updates"] == 3 and agent.version == 1
    assert metrics["num_groups"] == 3 and tensors


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_learning_rates(schedule: str, expected: list[float], tiny: Policy) -> None:
    agent = learner(tiny, schedule=schedule, warmup_steps=2, total_steps=6, lr=2.0)
    assert [agent.learning_rate(i) / 2 for i in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("architecture", ["llama", "gemma"])
def test_other_architectures_drift_as_little(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    policy = load_policy(str(write_tiny_model(tmp_path_factory.mktemp("m"), architecture=architecture)), device="cpu")
    assert learner(policy).update(samples(policy)).metrics["drift_max"] == pytest.approx(0.0, abs=1e-3)


def test_lora_trains_adapters_only_and_saves_a_plain_model(
    tiny_folder: object, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("peft")
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=2)
    names = [name for name, _ in policy.trainable()]
    assert names and all("lora_" in name for name in names)
    agent = learner(policy, "grpo", {"kl_beta": 0.1}, lr=1e-2)
    for _ in range(3):
        metrics = agent.update(samples(policy)).metrics
    assert metrics["kl"] is not None and metrics["kl"] > 0
    folder = tmp_path_factory.mktemp("merged")
    save_policy(policy, folder)
    merged = load_policy(str(folder), device="cpu")
    ids = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        assert torch.allclose(merged.model(input_ids=ids).logits, policy.model(input_ids=ids).logits, atol=1e-4)
        original = load_policy(str(tiny_folder), device="cpu").model(input_ids=ids).logits
    assert not torch.allclose(merged.model(input_ids=ids).logits, original, atol=1e-3)
