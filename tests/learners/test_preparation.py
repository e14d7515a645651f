"""What an algorithm is given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from askesis.algorithms import Algorithm, CreditReport, RewardBatch, TokenBatch, build
from askesis.algorithms.types import AdvantageReport
from askesis.errors import AlgorithmError
from askesis.learners.batch import Sample
from askesis.learners.models import Models
from askesis.learners.preparation import Batch, prepare
from askesis.policy.loading import Policy
from askesis.trace import Call, Message, StopReason, TraceBuilder

CPU = torch.device("cpu")


def sample(observations: list[str], *, reward: float = 1.0, stop: StopReason = StopReason.TERMINATED) -> Sample:
    """One trajectory with a turn for each observation; turn i samples i + 1 tokens."""
    calls, context = [], []
    for turn, text in enumerate(observations):
        context = [*context, 30 + turn]
        sampled = [10 + turn] * (turn + 1)
        calls.append(
            Call(
                key=turn,
                context=context,
                sampled=sampled,
                logprobs=[-1.0] * len(sampled),
                messages=(Message(role="user", content=text),),
            )
        )
        context = [*context, *sampled]
    return Sample(trace_id="t", trace=TraceBuilder(calls).finish(stop), reward=reward, group=0)


def given(
    policy: Policy, name: str, samples: list[Sample], monkeypatch: pytest.MonkeyPatch, **options: object
) -> tuple[Batch, RewardBatch, TokenBatch]:
    """The batch, and what the algorithm saw."""
    seen: list[tuple[RewardBatch, TokenBatch]] = []
    credit = Algorithm.credit

    def watch(self: Algorithm, report: AdvantageReport, rewards: RewardBatch, tokens: TokenBatch) -> CreditReport:
        seen.append((rewards, tokens))
        return credit(self, report, rewards, tokens)

    monkeypatch.setattr(Algorithm, "credit", watch)
    algorithm = build(name, {"kl_beta": 0.0})
    pair = Models(policy, packed=True, temperature=1.0, micro_batch_tokens=99, has_reference=True)
    settings = {"progress": 0.25, "moving_reward": None, "rescore": False, **options}
    batch = prepare(samples, algorithm, pair, CPU, **settings)  # type: ignore[arg-type]
    return batch, *seen[0]


def test_rewards_come_with_lengths_turns_and_how_they_ended(tiny: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [sample(["a", "b"]), sample(["a"], reward=0.0, stop=StopReason.MAX_TOKENS)]
    batch, rewards, tokens = given(tiny, "grpo", samples, monkeypatch)
    assert (rewards.length_B.tolist(), rewards.num_turns_B.tolist()) == ([3, 1], [2, 1])  # type: ignore[union-attr]
    assert rewards.truncated_B.tolist() == [False, True]  # type: ignore[union-attr]
    assert rewards.progress == 0.25
    assert tokens.turn_BT.tolist() == [[0, 1, 1], [0, 0, 0]]
    assert tokens.entropy_BT is None and tokens.hellinger_BT is None  # nothing is computed that nobody needs
    assert batch.credit.advantage_BT[0].tolist() == pytest.approx([batch.advantages.advantage_B[0].item()] * 3)


def test_equal_observations_share_an_anchor_and_the_reward_comes_last(
    tiny: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [sample(["start", "left"]), sample(["start", "right"], reward=0.5)]
    _, _, tokens = given(tiny, "gigpo", samples, monkeypatch)
    assert tokens.anchor_BT is not None and tokens.step_reward_BT is not None
    anchors = tokens.anchor_BT.tolist()
    assert anchors[0][0] == anchors[1][0] and anchors[0][1] == anchors[0][2] != anchors[1][1]
    assert tokens.step_reward_BT.tolist() == [[0.0, 1.0, 1.0], [0.0, 0.5, 0.5]]
    paid = [replace(s, step_rewards=(0.1, 0.2)) for s in samples]
    _, _, tokens = given(tiny, "gigpo", paid, monkeypatch)
    assert tokens.step_reward_BT is not None
    assert tokens.step_reward_BT[0].tolist() == pytest.approx([0.1, 0.2, 0.2])
    with pytest.raises(AlgorithmError, match="another number of step rewards"):
        given(tiny, "gigpo", [replace(s, step_rewards=(0.1,)) for s in samples], monkeypatch)


def test_distances_and_entropies_are_computed_where_they_are_needed(
    tiny: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, tokens = given(tiny, "dgpo_hellinger", [sample(["a"]), sample(["b"], reward=0.0)], monkeypatch)
    assert tokens.hellinger_BT is not None and float(tokens.hellinger_BT.max()) < 1e-6
    assert tokens.entropy_BT is not None and float(tokens.entropy_BT[tokens.mask_BT].min()) > 0
    assert tokens.vocab_size == tiny.model.config.vocab_size


def test_recorded_log_probabilities_are_replaced_when_they_cannot_be_compared(
    tiny: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [sample(["a"]), sample(["b"], reward=0.0)]
    recorded, _, _ = given(tiny, "grpo", samples, monkeypatch)
    scored, _, tokens = given(tiny, "grpo", samples, monkeypatch, rescore=True)
    assert recorded.table.behaviour_BT.tolist() == [[-1.0], [-1.0]]
    assert torch.equal(tokens.logp_behaviour_BT, scored.table.behaviour_BT)
    assert not torch.allclose(scored.table.behaviour_BT, recorded.table.behaviour_BT, atol=0.1)
