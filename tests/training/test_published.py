"""What workers are to sample from: a copy of each version, as long as somebody may need it."""

from __future__ import annotations

import torch

from askesis.policy.loading import Policy, load_policy
from askesis.training.published import Publications, digest_of, frozen_digest
from askesis.training.sampler import Sampler


def _change(policy: Policy) -> None:
    with torch.no_grad():
        for _, parameter in policy.trainable():
            parameter.add_(0.01)


def test_what_was_published_stays_as_it_was(tiny: Policy) -> None:
    publications = Publications(Sampler(tiny, max_batch=4, staleness=1))
    first = publications.wanted("train")
    assert first.version == 0 and first.digest == digest_of(tiny)
    before = {name: tensor.clone() for name, tensor in first.content.items()}  # type: ignore[union-attr]
    _change(tiny)
    assert publications.wanted("evaluation") is first  # not published yet
    assert all(torch.equal(before[name], tensor) for name, tensor in first.content.items())  # type: ignore[union-attr]


def test_the_newest_is_wanted_and_old_ones_are_forgotten(tiny: Policy) -> None:
    sampler = Sampler(tiny, max_batch=4, staleness=1)
    publications = Publications(sampler)
    for version in (1, 2, 3):
        _change(tiny)
        sampler.publish(version)
        assert publications.wanted("train").version == version
        assert publications.wanted("train").digest == digest_of(tiny)
    assert list(publications._kept) == [3]


def test_stale_training_weights_are_kept_beside_the_present_ones(tiny: Policy) -> None:
    sampler = Sampler(tiny, max_batch=4, staleness=2)
    publications = Publications(sampler)
    start = digest_of(tiny)
    wanted = []
    for version in (1, 2, 3):
        _change(tiny)
        sampler.publish(version)
        wanted.append((publications.wanted("train").version, publications.wanted("evaluation").version))
    assert wanted == [(0, 1), (2, 2), (2, 3)]
    weights, values = sampler.state_dict()
    again = Sampler(load_policy(tiny.name, device="cpu"), max_batch=4, staleness=2)
    resumed = Publications(again)
    assert resumed.wanted("train").digest == start
    again.load_state_dict(weights, values, 3)
    assert resumed.wanted("train").version == 2
    assert resumed.wanted("train").digest == publications.wanted("train").digest


def test_the_frozen_part_is_what_training_leaves_alone(tiny: Policy) -> None:
    before, start = frozen_digest(tiny), digest_of(tiny)
    _change(tiny)
    assert frozen_digest(tiny) == before and digest_of(tiny) != start
    for number, (_, parameter) in enumerate(tiny.trainable()):
        parameter.requires_grad_(number % 2 == 0)
    half = frozen_digest(tiny)
    assert half != before
    _change(tiny)
    assert frozen_digest(tiny) == half
