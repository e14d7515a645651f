"""Our own workers on tiny loads: they run, and the per-call peer computes the gradient that it claims to."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.models import Shape, write_model
from benchmarks.workers import rate
from benchmarks.workers.channel import Channel
from benchmarks.workers.learner import samples_of
from benchmarks.workers.per_call import backward
from benchmarks.workload import Grpo, Turns

from askesis.policy.loading import load_policy

TINY = Shape(name="t", hidden=16, intermediate=24, layers=1, heads=2, kv_heads=1, head_size=8)
LOAD = Turns(prompts=2, members=2, turns=2, first=5, observation=3, action=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(TINY, tmp_path_factory.mktemp("bench") / "model")


def test_the_same_weights_at_every_call(model: Path, tmp_path: Path) -> None:
    again = write_model(TINY, tmp_path / "model")
    assert (again / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_one_token_per_letter(model: Path) -> None:
    policy = load_policy(str(model), device="cpu")
    text = Grpo(prompts=1, group=1, prompt_tokens=40, new_tokens=1).texts(0)[0]
    assert len(policy.template.encode_text(text)) == 40


GRPO = Grpo(prompts=2, group=2, prompt_tokens=4, new_tokens=3)


@pytest.mark.parametrize(
    ("worker", "job", "tokens"),
    [
        ("step", {"whole": False, "load": GRPO.to_dict()}, 12),
        ("step", {"whole": True, "load": GRPO.to_dict()}, 12),
        ("learner", {"load": LOAD.to_dict()}, 16),
        ("per_call", {"load": LOAD.to_dict()}, 16),
        ("sessions", {"load": LOAD.to_dict()}, 16),
        ("sampler", {}, 12),
        ("generate", {}, 12),
    ],
)
def test_our_workers_answer(model: Path, worker: str, job: dict[str, Any], tokens: int) -> None:
    job = {"model": str(model), "threads": 1, "micro_batch_tokens": 64, **job}
    request: dict[str, Any] = {"round": 3} if "load" in job else {"round": 3, "load": GRPO.to_dict()}
    answers = io.StringIO()
    channel = Channel(io.StringIO(f"{json.dumps(job)}\n{json.dumps(request)}\n"), answers)
    importlib.import_module(f"benchmarks.workers.{worker}").serve(channel)
    ready, answer = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert ready["versions"]["torch"] == torch.__version__
    assert answer["tokens"] == tokens
    assert answer["cpu_s"] > 0
    assert answer["wall_s"] > 0
    if worker == "step":
        assert answer["drift"] < 1e-4
    if worker == "sessions":
        assert 0 < answer["outside_share"] < 1


def test_the_rate_is_what_was_multiplied_over_its_time() -> None:
    answers = io.StringIO()
    rate.serve(Channel(io.StringIO('{"threads": 1}\n{"matmul": [64, 64, 64]}\n'), answers))
    answer = json.loads(answers.getvalue().splitlines()[1])
    # All 15 repeats lie within the round: the best of them is faster than their mean.
    operations = 2.0 * 64**3 * int(2e8 / 64**3)
    assert answer["rate"] > 15 * operations / answer["wall_s"]


def test_traces_are_the_conversations(model: Path) -> None:
    policy = load_policy(str(model), device="cpu")
    samples = samples_of(LOAD, 0, policy)
    assert [s.group for s in samples] == [0, 0, 1, 1]
    assert {s.trace.num_tokens for s in samples} == {5 + 3 + 4}
    assert {s.trace.num_sampled for s in samples} == {4}
    assert len(samples[0].trace.branches()) == 1


def test_the_gradient_per_call_does_not_depend_on_the_cut_and_equals_one_written_plainly(model: Path) -> None:
    policy = load_policy(str(model), device="cpu")
    network: Any = policy.model
    said = [
        [(policy.template.encode_text(text), ids) for text, ids in one]
        for one in LOAD.conversations(0, network.config.vocab_size)
    ]
    gradients = []
    for max_tokens in (10_000, 1):
        network.zero_grad()
        backward(network, said, LOAD, max_tokens)
        gradients.append(_flat(network))
    network.zero_grad()
    _plain_loss(network, said).backward()
    assert gradients[0].norm() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(gradients[0], _flat(network), rtol=1e-4, atol=1e-7)


def _flat(network: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten().clone() for p in network.parameters()])


def _plain_loss(network: Any, said: Any) -> torch.Tensor:
    """Every call by itself, all logits; at the first step the clipped ratio's gradient is that of the log-probability
    times the ratio.
    """
    rewards = torch.tensor([sum(i % 2 == 0 for _, ids in one for i in ids) / 4 for one in said]).view(2, 2)
    advantages = ((rewards - rewards.mean(1, True)) / (rewards.std(1, keepdim=True) + 1e-4)).flatten()
    total = torch.zeros(())
    for one, advantage in zip(said, advantages, strict=True):
        context: list[int] = []
        for read, sampled in one:
            context += [*read, *sampled]
            logp = network(input_ids=torch.tensor([context])).logits[0].log_softmax(-1)
            places = range(len(context) - len(sampled), len(context))
            chosen = torch.stack([logp[at - 1, context[at]] for at in places])
            ratio = (chosen + torch.tensor(float(network.config.vocab_size)).log()).exp()
            surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            total = total - surrogate.mean() / 8
    return total
