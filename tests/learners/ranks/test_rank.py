"""What a rank says about tensors. What it computes: tests/learners/ranks/test_learner.py."""

from __future__ import annotations

import hashlib

import pytest
import torch

from askesis.learners.ranks.rank import Rank, digest
from askesis.learners.ranks.wire import Message


def digest_of(name: str, tensor: torch.Tensor) -> str:
    running = hashlib.sha256()
    digest(running, name, tensor)
    return running.hexdigest()


def test_a_digest_knows_name_type_shape_and_bits() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    known = digest_of("a", tensor)
    assert digest_of("a", tensor.t().contiguous().t()) == known
    for name, other in (("b", tensor), ("a", tensor.view(3, 2)), ("a", tensor.double()), ("a", tensor + 1e-6)):
        assert digest_of(name, other) != known
    assert digest_of("a", torch.empty(0)) != digest_of("b", torch.empty(0))


def test_only_rank_0_listens_and_on_the_address_it_is_told() -> None:
    rank = Rank()
    assert rank.handle(Message({"do": "listen", "host": None}, {})).head == {}
    port = rank.handle(Message({"do": "listen", "host": "127.0.0.1"}, {})).head["port"]
    assert rank._listener is not None
    assert rank._listener.getsockname() == ("127.0.0.1", port)
    rank._listener.close()


def test_what_it_does_not_know_is_no_request() -> None:
    with pytest.raises(AttributeError):
        Rank().handle(Message({"do": "fly"}, {}))
