"""Loading and saving policies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from askesis.errors import PolicyError
from askesis.policy.loading import Policy, load_policy, save_policy, weights_hash


def test_what_is_saved_is_a_plain_transformers_folder(tiny: Policy, tmp_path: Path) -> None:
    save_policy(tiny, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, tiny.model(input_ids=ids).logits)
    assert AutoTokenizer.from_pretrained(tmp_path).encode("hi") == tiny.tokenizer.encode("hi")
    assert weights_hash(load_policy(str(tmp_path), device="cpu").model) == weights_hash(tiny.model)


def test_the_hash_sees_one_changed_bit(tiny: Policy) -> None:
    before = weights_hash(tiny.model)
    weight = tiny.trainable()[3][1]
    with torch.no_grad():
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(1e9))
    assert weights_hash(tiny.model) != before


def test_missing_tensors_are_not_filled_at_random(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.layers.1.mlp.up_proj.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(PolicyError, match="do not fill the model") as caught:
        load_policy(str(folder), device="cpu")
    assert "up_proj" in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"junk" * 100, (1 << 62).to_bytes(8, "little") + b"{}"])
def test_broken_weights_are_a_policy_error(data: bytes, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(PolicyError, match="cannot be loaded"):
        load_policy(str(folder), device="cpu")


def test_facts_about_a_policy(tiny: Policy) -> None:
    assert tiny.context_length == 256
    assert tiny.num_parameters == sum(p.numel() for _, p in tiny.trainable())
    assert load_policy("nano", device="cpu").num_parameters < 2_000_000


def test_bfloat16_loads_as_asked(tiny_folder: Path) -> None:
    policy = load_policy(str(tiny_folder), dtype="bfloat16", device="cpu")
    assert {p.dtype for _, p in policy.trainable()} == {torch.bfloat16}
