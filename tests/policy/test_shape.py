"""Sizes of models from their configurations alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from askesis.errors import PolicyError
from askesis.policy.loading import Policy, load_policy
from askesis.policy.shape import KNOWN, shape_of
from askesis.policy.weights import Weights


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # As the cards of the models on the Hub count them.
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-1.7B", 1_720_574_976),
        ("Qwen/Qwen3-4B", 4_022_468_096),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("Qwen/Qwen3-14B", 14_768_307_200),
        ("Qwen/Qwen3-32B", 32_762_123_264),
    ],
)
def test_qwen3_without_a_network(name: str, parameters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shape = shape_of(name)
    assert shape.num_parameters == parameters
    assert (shape.kv_heads, shape.head_size, shape.vocabulary) == (8, 128, 151_936)
    assert shape.kv_values == 2 * shape.num_layers * 8 * 128


def test_every_known_name_is_tested() -> None:
    assert len(KNOWN) == 6


def test_a_folder_is_counted_as_it_is_loaded(tiny: Policy, tiny_folder: Path) -> None:
    shape = shape_of(str(tiny_folder))
    assert shape.num_parameters == tiny.num_parameters and shape.context_length == tiny.context_length == 256
    joint = sum(
        p.matrix.numel()
        for layer in Weights.of(tiny.model).layers
        for p in (layer.qkv, layer.out, layer.gate_up, layer.down)
    )
    assert shape.num_joint == joint
    assert shape.architecture == "Qwen3ForCausalLM" and shape.num_layers == 2


def test_adapters_are_counted_as_they_are_made(tiny_folder: Path) -> None:
    pytest.importorskip("peft")
    policy = load_policy(str(tiny_folder), device="cpu", lora_rank=3)
    assert 3 * shape_of(str(tiny_folder)).lora_per_rank == sum(p.numel() for _, p in policy.trainable())


def test_nano_has_a_shape() -> None:
    assert 500_000 < shape_of("nano").num_parameters < 3_000_000


def test_a_model_without_a_configuration_is_said_with_the_known_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PolicyError, match="configuration cannot be had") as caught:
        shape_of("somebody/a-model-that-is-not-cached")
    assert "Qwen/Qwen3-8B" in str(caught.value)
    with pytest.raises(PolicyError, match="does not exist"):
        shape_of(str(tmp_path / "nothing"))
