"""What ranks build a model from. Models in pieces that compute: tests/learners/ranks/test_learner.py."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from askesis.errors import PolicyError
from askesis.learners.ranks.sharding import ModelSpec, build_empty, spec_of
from askesis.policy.loading import Policy, load_policy


def names(model: torch.nn.Module) -> list[tuple[str, torch.Size, torch.dtype, bool]]:
    return [(name, p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()]


@pytest.mark.parametrize("lora_rank", [0, 4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_built_anew_without_its_weights(lora_rank: int, dtype: str, tiny_folder: Path) -> None:
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=lora_rank, dtype=dtype)
    written = json.loads(json.dumps(spec_of(policy)._asdict()))
    model = build_empty(ModelSpec(**written))
    assert names(model) == names(policy.model)
    assert all(p.is_meta for p in model.parameters())
    assert not model.training


def test_a_model_that_its_configuration_does_not_make_is_refused(tiny: Policy) -> None:
    model = copy.deepcopy(tiny.model)
    model.extra = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(PolicyError, match="not like it") as caught:
        spec_of(replace(tiny, model=model))
    assert "cluster.learner_ranks=1" in str(caught.value)
