"""From sessions with forks to samples: how many, in which groups, and which tokens learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from askesis.algorithms import Algorithm, build
from askesis.engines import Sampling
from askesis.learners import CriticSettings, GradientLearner, LearnerSettings, Sample, rows_of
from askesis.learners.models import Models
from askesis.learners.preparation import Batch, prepare
from askesis.policy.loading import Policy
from askesis.recipe import Recipe, load_recipe
from askesis.rollout import StateEvaluator
from askesis.store import Group
from askesis.training.samples import samples_of
from searching import chain, index_of, play, solver

DRAWN = Sampling(max_tokens=40)
WORLD = chain(min_hops=1, max_hops=2)


def recipe(**states: object) -> Recipe:
    given = [f"states.{name}={value}" for name, value in {"evaluator": "policy", **states}.items()]
    return load_recipe(None, ["environment.name=search", *given]).recipe


def searched(policy: Policy, *, answers: int = 1, judge: str = "policy") -> list[Group]:
    """Two groups of two sessions: of two searches, and of one."""
    evaluator = StateEvaluator(judge=judge, answers=answers, sampling=DRAWN, request="")  # type: ignore[arg-type]
    found = []
    for hops in (2, 1):
        index = index_of(WORLD, hops)
        found.append(play(policy, WORLD, index, solver(WORLD, index), evaluator=evaluator))
    return found


def prepared(policy: Policy, algorithm: Algorithm, samples: list[Sample]) -> Batch:
    critic = GradientLearner(policy, algorithm, LearnerSettings(lr=1e-3, critic=CriticSettings())).critic
    assert critic is not None
    models = Models(
        policy, packed=True, temperature=1.0, micro_batch_tokens=1 << 20, has_reference=False, head=critic.head
    )
    return prepare(samples, algorithm, models, policy.device, progress=0.0, moving_reward=None, rescore=False)


def test_7a_6_one_sample_for_the_search_and_one_for_each_state(tiny: Policy) -> None:
    groups = searched(tiny)
    found = samples_of(groups, recipe(), drops_constant=False)
    turns = [len(m.verdict.states) - 1 for g in groups for m in g.members]
    assert turns == [2, 2, 1, 1] and len(found) == sum(1 + t + 1 for t in turns)
    assert [s.answer is None for s in found[:4]] == [True, False, False, False]
    assert [s.reward for s in found[:4]] == [1.0, 0.0, 0.0, 1.0]


def test_7a_5_a_direct_answer_has_one_answer_sample_and_no_process_reward(tiny: Policy) -> None:
    def direct(prompt: str, seed: int) -> str:
        return "Bado</answer>" if prompt.endswith("<answer>") else "<answer>Bado</answer>"

    evaluator = StateEvaluator(judge="policy", answers=1, sampling=DRAWN, request="")
    group = play(tiny, WORLD, 0, direct, evaluator=evaluator, size=2)
    found = samples_of([group], recipe(), drops_constant=False)
    assert [s.answer is None for s in found] == [True, False, True, False]
    loud, silent = (
        prepared(tiny, build("oases", {"kl_beta": 0.0, "process_weight": w}), found).credit.advantage_BT
        for w in (5.0, 0.0)
    )
    assert torch.equal(loud, silent)


def test_single_answers_are_compared_at_their_depth_several_at_their_state(tiny: Policy) -> None:
    one = samples_of(searched(tiny), recipe(), drops_constant=False)
    depths = [s.group for s in one if s.answer is not None]
    assert depths == [2, 3, 4, 2, 3, 4, 5, 6, 5, 6]
    many = samples_of(searched(tiny, answers=2), recipe(answers=2), drops_constant=False)
    assert [s.group for s in many if s.answer is not None][:8] == [2, 2, 3, 3, 4, 4, 5, 5]
    assert {s.group for s in many if s.answer is None} == {0, 1}


def test_answers_may_weigh_less_or_be_left_out(tiny: Policy) -> None:
    groups = searched(tiny)
    half = samples_of(groups, recipe(answer_loss_weight=0.5), drops_constant=False)
    assert {s.weight for s in half if s.answer is not None} == {0.5}
    assert {s.weight for s in half if s.answer is None} == {1.0}
    none = samples_of(groups, recipe(answer_loss_weight=0.0), drops_constant=False)
    assert [s.answer for s in none] == [None] * 4


def test_answers_of_another_model_are_never_trained_on(tiny: Policy) -> None:
    found = samples_of(searched(tiny, judge="frozen"), recipe(evaluator="frozen"), drops_constant=False)
    assert [s.answer for s in found] == [None] * 4 and all(s.states for s in found)


def test_7a_10_only_what_was_sampled_learns(tiny: Policy) -> None:
    found = samples_of(searched(tiny), recipe(), drops_constant=False)
    rows = rows_of(found)
    for row in rows:
        sample = found[row.sample]
        drawn = np.concatenate([call.sampled for call in sample.calls])
        assert row.tokens[row.at].tolist() == drawn.tolist()
        if sample.answer is not None:  # an answer's row ends with the answer; all before it is prompt
            assert row.at.tolist() == list(range(len(row.tokens) - len(drawn), len(row.tokens)))
    trained = sum(len(row.at) for row in rows)
    assert trained == sum(s.trace.num_sampled for s in found if s.answer is None)  # each once, none left out


def test_7a_4_without_weight_and_answers_it_is_ppo_bit_for_bit(tiny: Policy) -> None:
    groups = searched(tiny)
    ours = samples_of(groups, recipe(answer_loss_weight=0.0), drops_constant=False)
    plain = [replace(sample, states=()) for sample in ours]
    one = prepared(tiny, build("oases", {"kl_beta": 0.0, "process_weight": 0.0}), ours)
    other = prepared(tiny, build("ppo", {"kl_beta": 0.0}), plain)
    assert torch.equal(one.credit.advantage_BT, other.credit.advantage_BT)
    assert one.credit.return_BT is not None and other.credit.return_BT is not None
    assert torch.equal(one.credit.return_BT, other.credit.return_BT)
    assert torch.equal(one.table.mask_BT, other.table.mask_BT)
    assert all(np.array_equal(a.tokens, b.tokens) for a, b in zip(one.rows, other.rows, strict=True))


@pytest.mark.parametrize("packed", [True, False])
def test_7a_7_the_order_of_answers_does_not_matter(packed: bool, tiny: Policy) -> None:
    found = samples_of(searched(tiny), recipe(), drops_constant=False)
    acts, answers = ([s for s in found if (s.answer is None) is kind] for kind in (True, False))
    settings = LearnerSettings(lr=1e-3, critic=CriticSettings(), packed=packed)
    agent = GradientLearner(tiny, build("oases", {"kl_beta": 0.0}), settings)
    norms = [
        agent.gradient_norm(batch, micro_batch_tokens=tokens)
        for batch, tokens in ((found, 300), ([*acts, *answers], 1 << 20), ([*acts, *answers[::-1]], 300))
    ]
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_a_trace_without_scores_is_refused_by_an_algorithm_that_reads_them(tiny: Policy) -> None:
    from askesis.errors import AlgorithmError

    found = samples_of(searched(tiny), recipe(answer_loss_weight=0.0), drops_constant=False)
    bare = [replace(sample, states=()) for sample in found]
    with pytest.raises(AlgorithmError, match="were not scored"):
        prepared(tiny, build("oases", {"kl_beta": 0.0}), bare)
