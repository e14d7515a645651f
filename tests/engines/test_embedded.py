"""The embedded engine against the model itself, token by token."""

from __future__ import annotations

import asyncio
import math

import pytest
import torch

from askesis.engines import Request, Sampling
from askesis.engines.embedded import EmbeddedEngine, sample_batch
from askesis.errors import ContextOverflow, EngineError
from askesis.policy.loading import Policy, load_policy
from tiny_model import write_tiny_model

PROMPTS = [(5, 6, 7), (5, 6, 7), (9,), (11, 12, 13, 14, 15)]


def request(prefix: tuple[int, ...], seed: int, **sampling: float) -> Request:
    return Request(prefix=prefix, sampling=Sampling(max_tokens=12, **sampling), stop_ids=(1,), seed=seed)  # type: ignore[arg-type]


def model_logprobs(policy: Policy, prefix: tuple[int, ...], tokens: tuple[int, ...], temperature: float) -> list[float]:
    """The oracle: one plain forward pass over the whole sequence."""
    ids = torch.tensor([[*prefix, *tokens]])
    with torch.no_grad():
        logits = policy.model(input_ids=ids).logits[0, len(prefix) - 1 : -1].float() / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0].tolist()


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "gemma"])
def test_logprobs_are_the_models_own(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    policy = load_policy(
        str(write_tiny_model(tmp_path_factory.mktemp(architecture), architecture=architecture)), device="cpu"
    )
    requests = [
        request(p, seed, temperature=t) for seed, (p, t) in enumerate(zip(PROMPTS, (1.0, 0.7, 1.3, 1.0), strict=True))
    ]
    for one, done in zip(requests, sample_batch(policy, requests), strict=True):
        expected = model_logprobs(policy, one.prefix, done.tokens, one.sampling.temperature)
        assert done.logprobs == pytest.approx(expected, abs=1e-4)


def test_an_answer_does_not_depend_on_the_batch(tiny: Policy) -> None:
    requests = [request(p, seed) for seed, p in enumerate(PROMPTS)]
    together = sample_batch(tiny, requests)
    alone = [sample_batch(tiny, [one])[0] for one in requests]
    assert [c.tokens for c in together] == [c.tokens for c in alone]
    reversed_batch = sample_batch(tiny, requests[::-1])[::-1]
    assert [c.tokens for c in together] == [c.tokens for c in reversed_batch]


def test_the_seed_decides(tiny: Policy) -> None:
    first, again, other = sample_batch(tiny, [request((5, 6), 1), request((5, 6), 1), request((5, 6), 2)])
    assert first.tokens == again.tokens != other.tokens


def test_greedy_takes_the_most_probable_and_has_logprob_zero(tiny: Policy) -> None:
    done = sample_batch(tiny, [request((5, 6), 3, temperature=0.0)])[0]
    ids = torch.tensor([[5, 6, *done.tokens]])
    with torch.no_grad():
        best = tiny.model(input_ids=ids).logits[0, 1:-1].argmax(-1)
    assert list(done.tokens) == best.tolist()
    assert set(done.logprobs) == {0.0}


def test_answers_end_at_a_stop_token_or_at_the_limit(tiny: Policy) -> None:
    requests = [
        Request(prefix=(5, i), sampling=Sampling(max_tokens=40), stop_ids=tuple(range(64)), seed=i) for i in range(30)
    ]
    for done in sample_batch(tiny, requests):
        inside = [t in requests[0].stop_ids for t in done.tokens]
        assert not any(inside[:-1])
        assert done.finish == ("stop" if inside[-1] else "length")
        assert inside[-1] or len(done.tokens) == 40
    endings = {c.finish for c in sample_batch(tiny, [request((5, i), i) for i in range(20)])}
    assert "length" in endings


def test_requests_that_arrive_together_are_one_batch(tiny: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    from askesis.engines import embedded

    def counting(policy: Policy, requests: list[Request], version: int) -> object:
        sizes.append(len(requests))
        return sample_batch(policy, requests, version)

    monkeypatch.setattr(embedded, "sample_batch", counting)

    async def main() -> list[tuple[int, ...]]:
        engine = EmbeddedEngine(tiny, max_batch=6)
        engine.publish(4)
        done = await asyncio.gather(*(engine.generate(request((5, 6), seed)) for seed in range(10)))
        assert {c.version for c in done} == {4}
        await engine.close()
        return [c.tokens for c in done]

    tokens = asyncio.run(main())
    assert sizes == [6, 4]
    assert tokens == [sample_batch(tiny, [request((5, 6), seed)])[0].tokens for seed in range(10)]


def test_a_prompt_longer_than_the_context_is_refused(tiny: Policy) -> None:
    async def main() -> None:
        await EmbeddedEngine(tiny).generate(request(tuple(range(250)), 0))

    with pytest.raises(ContextOverflow, match="does not fit"):
        asyncio.run(main())


def test_broken_weights_are_an_error_and_the_engine_lives_on(tiny: Policy) -> None:
    weight = tiny.model.get_input_embeddings().weight
    saved = weight.detach().clone()

    async def main() -> None:
        engine = EmbeddedEngine(tiny)
        with torch.no_grad():
            weight.fill_(math.nan)
        with pytest.raises(EngineError, match="not finite"):
            await engine.generate(request((5, 6), 0))
        with torch.no_grad():
            weight.copy_(saved)
        assert (await engine.generate(request((5, 6), 0))).tokens
        await engine.close()

    asyncio.run(main())


def test_sampling_parameters_out_of_range_are_refused() -> None:
    for bad in ({"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_tokens": 0}):
        with pytest.raises(EngineError, match="out of range"):
            Sampling(**bad)  # type: ignore[arg-type]
