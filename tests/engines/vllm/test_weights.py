"""A snapshot holds what the learner had, under the names of its architecture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from askesis.engines.vllm.server.askesis_vllm import digest
from askesis.engines.vllm.weights import write_snapshot
from askesis.errors import EngineError
from askesis.policy.loading import Policy, load_policy, weights_hash


def test_the_file_holds_every_tensor_once_and_its_hash_is_that_of_its_content(tiny: Policy, tmp_path: Path) -> None:
    snapshot = write_snapshot(tiny, tmp_path, 3)
    held = load_file(snapshot.file)
    own = dict(tiny.model.state_dict())
    assert set(own) - set(held) == {"lm_head.weight"}  # tied to the embedding
    assert all(torch.equal(held[name], own[name]) for name in held)
    with safe_open(snapshot.file, framework="pt") as source:
        assert digest((name, source.get_tensor(name)) for name in sorted(source.keys())) == snapshot.content
    assert (snapshot.version, snapshot.weights) == (3, weights_hash(tiny.model))
    assert [p.name for p in snapshot.folder.iterdir()] == ["model.safetensors"]


def test_any_change_changes_both_hashes(tiny: Policy, tmp_path: Path) -> None:
    before = write_snapshot(tiny, tmp_path, 0)
    with torch.no_grad():
        tiny.model.model.norm.weight[0] += 1e-6
    after = write_snapshot(tiny, tmp_path, 1)
    assert before.content != after.content and before.weights != after.weights
    before.remove()
    assert not before.folder.exists() and after.file.exists()


def test_adapters_are_merged(tiny_folder: Path, tmp_path: Path) -> None:
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=2)
    plain = write_snapshot(policy, tmp_path, 0)
    with torch.no_grad():
        for name, tensor in policy.trainable():
            if "lora_B" in name:
                tensor.fill_(0.1)
    merged = write_snapshot(policy, tmp_path, 1)
    a, b = load_file(plain.file), load_file(merged.file)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not any("lora" in key or "base_layer" in key for key in b)
    assert not torch.equal(a[name], b[name]) and torch.equal(a["model.norm.weight"], b["model.norm.weight"])


def test_a_folder_that_cannot_be_written_is_named(tiny: Policy, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match="cannot be written") as caught:
        write_snapshot(tiny, tmp_path / "file", 0)
    assert "engine.vllm.weights_dir" in str(caught.value)
