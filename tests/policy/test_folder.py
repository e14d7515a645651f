"""Model folders: what is refused, before anything heavy is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from askesis.errors import PolicyError
from askesis.policy.folder import check_folder, resolve_name


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def test_a_complete_folder_and_a_hub_name_pass(tiny_folder: Path) -> None:
    assert resolve_name(str(tiny_folder)) == str(tiny_folder)
    assert resolve_name("Qwen/Qwen3-0.6B") == "Qwen/Qwen3-0.6B"
    assert Path(resolve_name("nano")).name == "nano"


def test_a_folder_without_weights(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path / "m")
    (folder / "model.safetensors").unlink()
    with pytest.raises(PolicyError, match="no weights"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickle_weights_are_refused_by_name(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path / "m")
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(PolicyError, match="pickle") as caught:
        check_folder(folder)
    assert name in str(caught.value)


def test_missing_parts_are_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy(tiny_folder, tmp_path / "m")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "other.safetensors"}}))
    with pytest.raises(PolicyError, match="missing") as caught:
        check_folder(folder)
    assert "other.safetensors" in str(caught.value)
    index.write_text("{")
    with pytest.raises(PolicyError, match="index is broken"):
        check_folder(folder)
    index.unlink()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(PolicyError, match="no tokenizer"):
        check_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(PolicyError, match=r"no config\.json"):
        check_folder(folder)


def test_names_that_cannot_be_models(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="does not exist"):
        resolve_name(str(tmp_path / "nowhere"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(PolicyError, match="is a file"):
        resolve_name(str(tmp_path / "file"))
    with pytest.raises(PolicyError, match="unknown built-in") as caught:
        resolve_name("nanoo")
    assert "nano" in str(caught.value.expected)
