"""Which weights sample."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch

from askesis.engines import Request, Sampling
from askesis.errors import CheckpointError, EngineError
from askesis.policy.loading import Policy, weights_hash
from askesis.training.sampler import Sampler, load_weights


def nudge(policy: Policy) -> str:
    with torch.no_grad():
        policy.trainable()[0][1].add_(0.1)
    return weights_hash(policy.model)


def test_without_staleness_there_is_one_engine_on_the_learners_tensors(tiny: Policy) -> None:
    sampler = Sampler(tiny, max_batch=8, staleness=1)
    assert sampler.engine is sampler.current
    nudge(tiny)
    sampler.publish(1)
    assert sampler.engine.weights_hash() == weights_hash(tiny.model) and sampler.engine.version == 1
    assert sampler.state_dict()[0] == {}


def test_a_copy_is_renewed_when_it_is_due(tiny: Policy) -> None:
    sampler = Sampler(tiny, max_batch=8, staleness=2)
    hashes = [weights_hash(tiny.model)]
    seen = []
    for version in (1, 2, 3, 4):
        hashes.append(nudge(tiny))
        sampler.publish(version)
        seen.append((sampler.engine.version, hashes.index(sampler.engine.weights_hash()), sampler.current.version))
    assert seen == [(0, 0, 1), (2, 2, 2), (2, 2, 3), (4, 4, 4)]
    assert sampler.current.weights_hash() == hashes[4]


def test_a_saved_copy_is_put_back(tiny: Policy, tiny_folder: object) -> None:
    from askesis.policy.loading import load_policy

    sampler = Sampler(tiny, max_batch=8, staleness=3)
    nudge(tiny)
    sampler.publish(1)
    weights, values = sampler.state_dict()
    other = Sampler(load_policy(str(tiny_folder), device="cpu"), max_batch=8, staleness=3)
    nudge(tiny)
    other.load_state_dict(weights, values, 2)
    assert (other.engine.version, other.current.version) == (0, 2)
    assert other.engine.weights_hash() == sampler.engine.weights_hash()


def test_weights_of_another_model_are_refused(tiny: Policy) -> None:
    with pytest.raises(CheckpointError, match="another model"):
        load_weights(tiny, {"x": torch.zeros(1)})


def test_both_engines_are_closed(tiny: Policy) -> None:
    sampler = Sampler(tiny, max_batch=8, staleness=2)
    asyncio.run(sampler.close())
    for engine in (sampler.current, sampler.engine):
        with pytest.raises(EngineError, match="closed"):
            asyncio.run(engine.generate(Request(prefix=(1,), sampling=Sampling(), stop_ids=(), seed=0)))


def test_everything_is_computed_in_one_thread(tiny: Policy) -> None:
    async def scenario() -> set[int]:
        sampler = Sampler(tiny, max_batch=8, staleness=2)
        seen = {await sampler.compute(threading.get_ident)}
        for engine in (sampler.current, sampler.engine):
            seen.add(await asyncio.get_running_loop().run_in_executor(engine._thread, threading.get_ident))
        await sampler.close()
        return seen

    seen = asyncio.run(scenario())
    assert len(seen) == 1 and threading.get_ident() not in seen


def test_what_overlaps_takes_the_weights_when_it_is_told_to(tiny: Policy) -> None:
    async def scenario() -> None:
        sampler = Sampler(tiny, max_batch=8, staleness=1, overlaps=True)
        before = weights_hash(tiny.model)
        after = nudge(tiny)
        sampler.publish(1)
        assert (sampler.engine.version, sampler.current.version) == (0, 1)
        assert sampler.engine.weights_hash() == before and sampler.current.weights_hash() == after
        await sampler.take(1)
        assert sampler.engine.version == 1 and sampler.engine.weights_hash() == after
        assert sampler.state_dict()[0] == {}  # a resumed run samples from the learner's weights
        threads = {await sampler.compute(threading.get_ident)}
        threads.add(await asyncio.get_running_loop().run_in_executor(sampler.engine._thread, threading.get_ident))
        assert len(threads) == 2
        nudge(tiny)
        sampler.load_state_dict({}, {"version": 0}, 5)
        assert sampler.engine.version == 5 and sampler.engine.weights_hash() == weights_hash(tiny.model)
        await sampler.close()

    asyncio.run(scenario())
