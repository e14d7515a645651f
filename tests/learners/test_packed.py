"""Every distinct token once, with the results of one sequence per branch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.errors import PolicyError
from askesis.learners.batch import Sample, rows_of
from askesis.learners.packed import PackedScorer, _output_layer, cut_rows
from askesis.learners.padded import PaddedScorer
from askesis.policy.forest import pack
from askesis.policy.loading import Policy, load_policy
from askesis.trace import Call, StopReason, TraceBuilder

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=6)


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Traces with forks, second roots, and prefixes (sampled ones too) that other traces share."""
    result = []
    for number in range(draw(st.integers(1, 4))):
        calls: list[Call] = []
        for key in range(draw(st.integers(1, 4))):
            known = [[]] if not calls else [[], *([*c.context.tolist(), *c.sampled.tolist()] for c in calls)]
            context = [*draw(st.sampled_from(known)), *draw(TOKENS)]
            sampled = draw(TOKENS)
            calls.append(Call(key=key, context=context, sampled=sampled, logprobs=[-1.0] * len(sampled)))
        trace = TraceBuilder(calls).finish(StopReason.TERMINATED)
        result.append(Sample(trace_id=str(number), trace=trace, reward=float(number), group=0))
    return result


@settings(max_examples=40, deadline=None)
@given(samples(), st.integers(0, 99))
def test_scores_and_gradients_are_those_of_the_branches(tiny_once: Policy, batch: list[Sample], seed: int) -> None:
    rows = rows_of(batch)
    parameters = [p for _, p in tiny_once.trainable()]
    results = []
    for kind in (PackedScorer, PaddedScorer):
        scores = kind(tiny_once.model, temperature=0.8)(rows)
        upstream = torch.randn(scores.logp_BT.shape, generator=torch.Generator().manual_seed(seed))
        results.append((scores, torch.autograd.grad((scores.logp_BT * upstream).sum(), parameters)))
    (packed, ours), (padded, theirs) = results
    assert torch.allclose(packed.logp_BT, padded.logp_BT, atol=1e-5)
    assert torch.allclose(packed.entropy_BT, padded.entropy_BT, atol=1e-5)
    largest = max(float(g.abs().max()) for g in theirs)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True)) <= 1e-5 * largest + 1e-7


@settings(max_examples=60, deadline=None)
@given(samples(), st.integers(1, 40))
def test_micro_batches_cover_every_row_once_within_the_budget(
    tiny_once: Policy, batch: list[Sample], budget: int
) -> None:
    rows = rows_of(batch)
    cuts = list(PackedScorer(tiny_once.model, temperature=1.0).micro_batches(rows, budget))
    assert sorted(i for cut in cuts for i in cut) == list(range(len(rows)))
    whole = {s: pack([r.tokens for r in rows if r.sample == s]) for s in {r.sample for r in rows}}
    for cut in cuts:
        assert len(pack([rows[i].tokens for i in cut]).ids_N) <= budget or len({rows[i].sample for i in cut}) == 1
        for index in cut:
            together = [i for i, r in enumerate(rows) if r.sample == rows[index].sample]
            assert set(together) <= set(cut) or len(whole[rows[index].sample].ids_N) > budget


def test_a_shared_prompt_costs_once() -> None:
    prompt = [1] * 50
    calls = [Call(key=0, context=prompt, sampled=[2, token], logprobs=[-1.0] * 2) for token in range(8)]
    traces = [TraceBuilder([call]).finish(StopReason.TERMINATED) for call in calls]
    rows = rows_of([Sample(trace_id=str(i), trace=t, reward=0.0, group=0) for i, t in enumerate(traces)])
    (cut,) = cut_rows(rows, 50 + 1 + 8)
    assert sorted(cut) == list(range(8))
    assert [len(c) for c in cut_rows(rows, 50 + 1 + 7)] == [7, 1]


def test_cuts_for_several_threads_are_about_equal(tiny_once: Policy) -> None:
    calls = [Call(key=0, context=[n], sampled=[1] * 9, logprobs=[-1.0] * 9) for n in range(24)]
    traces = [TraceBuilder([call]).finish(StopReason.TERMINATED) for call in calls]
    rows = rows_of([Sample(trace_id=str(i), trace=t, reward=0.0, group=0) for i, t in enumerate(traces)])
    scorer = PackedScorer(tiny_once.model, temperature=1.0)
    assert [len(c) for c in scorer.micro_batches(rows, 90)] == [9, 9, 6]
    assert [len(c) for c in scorer.micro_batches(rows, 90, at_least=2)] == [6, 6, 6, 6]
    assert sorted(i for c in scorer.micro_batches(rows, 1000, at_least=2) for i in c) == list(range(24))
    assert len(scorer.micro_batches(rows, 1000, at_least=2)) == 2


def test_logits_that_the_model_changes_afterwards_are_noticed(tiny: Policy) -> None:
    forward = tiny.model.forward

    def scaled(*args: object, **kwargs: object) -> object:
        out = forward(*args, **kwargs)
        out.logits = out.logits * 3
        return out

    tiny.model.forward = scaled
    with pytest.raises(PolicyError, match="more to its logits"):
        PackedScorer(tiny.model, temperature=1.0)


@pytest.mark.parametrize("changes", [{"final_logit_softcapping": 2.0}, {"logit_scale": 0.5}, {"logits_scaling": 4.0}])
def test_known_changes_to_the_logits_are_made(changes: dict[str, float], tiny: Policy) -> None:
    layer = tiny.model.get_output_embeddings()
    hidden = torch.randn(3, layer.in_features, generator=torch.Generator().manual_seed(0))
    scorer = PackedScorer(tiny.model, temperature=1.0)
    plain = scorer.logits(hidden)
    for name, value in changes.items():
        setattr(tiny.model.config, name, value)
    expected = {
        "final_logit_softcapping": torch.tanh(plain / 2) * 2,
        "logit_scale": plain * 0.5,
        "logits_scaling": plain / 4,
    }[next(iter(changes))]
    assert torch.allclose(_output_layer(tiny.model)(hidden), expected)


@pytest.fixture(scope="module")
def tiny_once(tiny_folder: object) -> Policy:
    return load_policy(str(tiny_folder), device="cpu")
