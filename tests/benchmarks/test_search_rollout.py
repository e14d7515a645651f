"""The benchmark of search sessions: both ways play the same, and the other way's gradient is what it says."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from benchmarks.search_rollout import sides
from benchmarks.workers.channel import Channel
from benchmarks.workers.searching import Call, backward, serve

from askesis.policy.loading import load_policy


def played(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    job = {**job, "model": str(folder), "threads": 1, "micro_batch_tokens": 512}
    answers = io.StringIO()
    serve(Channel(io.StringIO(f'{json.dumps(job)}\n{{"round": 0}}\n'), answers))
    return dict(json.loads(answers.getvalue().splitlines()[1]))


def test_all_sides_play_the_same_sessions(tiny_folder: Path) -> None:
    found = [played(dict(job), tiny_folder) for job, _ in sides(questions=2, members=2, facts=1).values()]
    assert len(found) == 4
    for name in ("tokens", "samples", "distinct_tokens", "per_call_tokens"):
        assert len({answer[name] for answer in found}) == 1
    assert found[0]["samples"] >= 4 and found[0]["wall_s"] > 0


def test_the_gradient_of_padded_calls_is_that_of_single_ones(tiny_folder: Path) -> None:
    model: Any = load_policy(str(tiny_folder), device="cpu").model
    rng = torch.Generator().manual_seed(0)
    calls = [
        Call(torch.randint(5, 50, (length,), generator=rng).tolist(), sampled, advantage)
        for length, sampled, advantage in ((9, 3, 1.0), (5, 1, -0.5), (12, 4, 0.25))
    ]
    gradients = []
    for max_tokens in (1000, 1):
        model.zero_grad()
        backward(model, calls, max_tokens)
        gradients.append(torch.cat([p.grad.flatten().clone() for p in model.parameters()]))
    model.zero_grad()
    for call in calls:
        ids = torch.tensor([call.ids])
        logp = model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[-call.num_sampled :]
        torch.autograd.backward(-call.advantage * logp.mean() / len(calls))
    plain = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert plain.norm() > 0
    for gradient in gradients:
        torch.testing.assert_close(gradient, plain, rtol=1e-3, atol=1e-6)


def test_the_sides_differ_in_what_they_keep_and_pack() -> None:
    found = {name: (job["packed"], job["reuse"]) for name, (job, _) in sides().items()}
    assert found == {
        "ours": (True, True),
        "packed only": (True, False),
        "kept only": (False, True),
        "one sample per call": (False, False),
    }
    assert {job["questions"] * job["members"] for job, _ in sides().values()} == {256}
