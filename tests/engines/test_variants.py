"""Several sets of weights in one batch: each answer is the one that its own weights give alone."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from askesis.engines import Completion, Request, Sampling
from askesis.engines.embedded import EmbeddedEngine
from askesis.engines.scheduler import Call, Scheduler
from askesis.engines.variants import VariantDecoder
from askesis.engines.verify import open_decoder, open_variants
from askesis.errors import EngineError
from askesis.policy.loading import Policy

HEAD = tuple(5 + i % 40 for i in range(66))  # long enough to be shared by the rows of one variant
PREFIXES = [(5, 6, 7), (5, 6, 9, 8), (11,), (*HEAD, 4), (*HEAD, 4), (*HEAD, 9)]


def request(prefix: tuple[int, ...], seed: int, variant: int) -> Request:
    sampling = Sampling(max_tokens=3 + seed % 5)
    return Request(prefix=prefix, sampling=sampling, stop_ids=(1, 2), seed=seed, variant=variant)


def shaken(policy: Policy, seed: int) -> Policy:
    """The same model with other weights."""
    model = copy.deepcopy(policy.model)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return replace(policy, model=model)


def wear(policy: Policy, other: Policy) -> None:
    with torch.no_grad():
        for own, new in zip(policy.model.parameters(), other.model.parameters(), strict=True):
            own.copy_(new)


def sample(scheduler: Scheduler, requests: list[Request]) -> dict[tuple[int, int], Completion]:
    scheduler.submit(Call(one) for one in requests)
    done: dict[tuple[int, int], Completion] = {}
    while scheduler.busy:
        for call, result in scheduler.step():
            assert isinstance(result, Completion)
            done[call.request.variant, call.request.seed] = result
    return done


@pytest.mark.parametrize("family", ["Qwen3", "Qwen2", "Llama", "Gemma"])
@pytest.mark.parametrize(("max_batch", "kv_tokens"), [(64, 0), (5, 500)])
def test_each_row_is_sampled_by_its_own_weights(
    family: str, max_batch: int, kv_tokens: int, random_policy: Callable[..., Policy]
) -> None:
    policy = random_policy(family, num_hidden_layers=2, **({"head_dim": 8} if family == "Gemma" else {}))
    others = [shaken(policy, seed) for seed in range(3)]
    decoder = VariantDecoder(policy.model, 3)
    for place, other in enumerate(others):
        wear(policy, other)
        decoder.load(place)
    together = Scheduler(decoder, max_batch=max_batch, prefill_tokens=32, kv_tokens=kv_tokens)
    # Variant 1 has most rows, variant 2 one only; all rows of a variant have seeds that the others have too.
    rows = [
        (prefix, seed, variant)
        for variant, count in enumerate((4, 6, 1))
        for seed, prefix in enumerate(PREFIXES[:count])
    ]
    for _ in range(2):  # the second time from what was kept
        found = sample(together, [request(*row) for row in rows])
        for variant, other in enumerate(others):
            alone = Scheduler(open_decoder(other)[0], max_batch=64, prefill_tokens=32, kv_tokens=0)
            expected = sample(alone, [replace(request(*row), variant=0) for row in rows if row[2] == variant])
            for (_, seed), completion in expected.items():
                assert found[variant, seed].tokens == completion.tokens
                assert found[variant, seed].logprobs == pytest.approx(completion.logprobs, abs=1e-4)
    assert len({found[variant, 0].logprobs for variant in range(3)}) == 3


def test_what_one_variant_has_read_is_nothing_to_another(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Qwen3")
    decoder = open_variants(policy, 2)
    wear(policy, shaken(policy, 1))
    decoder.load(1)
    scheduler = Scheduler(decoder, max_batch=8, prefill_tokens=32, kv_tokens=500)
    first = sample(scheduler, [request((7, 8, 9), 0, 0)])[0, 0]
    second = sample(scheduler, [request((7, 8, 9), 0, 1)])[1, 0]
    assert first.logprobs[0] != second.logprobs[0] or first.tokens != second.tokens


def test_a_model_of_another_family_is_refused_with_what_to_do(random_policy: Callable[..., Policy]) -> None:
    with pytest.raises(EngineError, match="GPTNeoX") as caught:
        open_variants(random_policy("GPTNeoX", tie_word_embeddings=False), 2)
    assert "side_by_side=1" in str(caught.value)


def test_an_engine_refuses_weights_that_it_does_not_have(random_policy: Callable[..., Policy]) -> None:
    policy = random_policy("Qwen3")
    engine = EmbeddedEngine(policy, decoder=open_variants(policy, 2))

    async def ask(variant: int) -> Completion:
        return await engine.generate(request((5, 6), 0, variant))

    async def play() -> Completion:
        with pytest.raises(EngineError, match="no such weights"):
            await ask(2)
        done = await ask(1)
        await engine.close()
        return done

    assert asyncio.run(play()).tokens and engine.capabilities.kernel == "VariantDecoder"
