"""The policy and its reference, scored in batches of any size."""

from __future__ import annotations

import pytest
import torch

from askesis.algorithms import hellinger
from askesis.errors import AlgorithmError
from askesis.learners import scoring
from askesis.learners.batch import Row, Sample, rows_of
from askesis.learners.models import Models
from askesis.policy.loading import Policy, load_policy
from askesis.trace import Call, StopReason, TraceBuilder


def rows() -> list[Row]:
    calls = [([5, 6, 7], [8, 9, 1]), ([5, 6], [7]), ([5, 6, 7], [8, 2]), ([3], [4, 4, 4, 4])]
    traces = [
        TraceBuilder([Call(key=0, context=c, sampled=s, logprobs=[-1.0] * len(s))]).finish(StopReason.TERMINATED)
        for c, s in calls
    ]
    return rows_of([Sample(trace_id=str(i), trace=t, reward=0.0, group=0) for i, t in enumerate(traces)])


def models(policy: Policy, *, packed: bool = True, tokens: int = 8192, has_reference: bool = True) -> Models:
    return Models(policy, packed=packed, temperature=0.9, micro_batch_tokens=tokens, has_reference=has_reference)


def drift(policy: Policy) -> None:
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.mul_(1.1)


@pytest.mark.parametrize("packed", [True, False])
def test_scores_do_not_depend_on_the_cut(packed: bool, tiny: Policy) -> None:
    whole, cut = models(tiny, packed=packed).scores(rows()), models(tiny, packed=packed, tokens=3).scores(rows())
    assert whole.logp_BT.shape == (4, 4)
    assert torch.allclose(whole.logp_BT, cut.logp_BT, atol=1e-5)
    assert torch.allclose(whole.entropy_BT, cut.entropy_BT, atol=1e-5)


def test_the_reference_stays_where_the_policy_was(tiny: Policy) -> None:
    pair = models(tiny)
    before = pair.scores(rows()).logp_BT
    drift(tiny)
    assert torch.allclose(pair.reference_logp(rows()), before, atol=1e-6)
    assert not torch.allclose(pair.scores(rows()).logp_BT, before, atol=1e-3)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("elements", [1 << 24, 600])
def test_the_distance_is_that_of_the_whole_distributions(
    packed: bool, elements: int, tiny: Policy, tiny_folder: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_CHUNK_ELEMENTS", elements)
    pair = models(tiny, packed=packed, tokens=7)
    assert float(pair.distance(rows(), hellinger).abs().max()) < 1e-6
    drift(tiny)
    distance_BT = pair.distance(rows(), hellinger)
    start = load_policy(str(tiny_folder), device="cpu")
    with torch.no_grad():
        for place, row in enumerate(rows()):
            ids = torch.from_numpy(row.tokens.astype("int64"))[None]
            p, q = ((m.model(input_ids=ids).logits[0] / 0.9).softmax(-1) for m in (tiny, start))
            expected = (0.5 * (p.sqrt() - q.sqrt()).square().sum(-1))[row.at - 1]
            assert distance_BT[place, : len(row.at)].tolist() == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-6)
            assert distance_BT[place, len(row.at) :].tolist() == [0.0] * (4 - len(row.at))


def test_with_adapters_the_reference_is_the_model_without_them(tiny_folder: object) -> None:
    pytest.importorskip("peft")
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=2)
    pair = models(policy)
    before = pair.scores(rows()).logp_BT
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(0.1)
    assert torch.allclose(pair.reference_logp(rows()), before, atol=1e-5)
    assert not torch.allclose(pair.scores(rows()).logp_BT, before, atol=1e-3)
    assert float(pair.distance(rows(), hellinger).max()) > 1e-4


def test_a_reference_that_nobody_asked_for_is_not_there(tiny: Policy) -> None:
    with pytest.raises(AlgorithmError, match="without a reference"):
        models(tiny, has_reference=False).reference_logp(rows())
