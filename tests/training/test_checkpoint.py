"""Checkpoints: whole or not there; damage is named."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from askesis.errors import CheckpointError
from askesis.training import checkpoint
from askesis.training.checkpoint import Checkpoint


def make(step: int) -> Checkpoint:
    return Checkpoint(
        step=step,
        weights={"a": torch.full((3,), float(step)), "b": torch.arange(6.0).reshape(2, 3).t()},
        optimizer={"step/a": torch.tensor(2.0)},
        values={"learner": {"version": step}},
        sampler={"a": torch.full((3,), step - 1.0)} if step % 2 else {},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, make(3), keep=2)
    place = checkpoint.latest(tmp_path)
    assert place is not None
    loaded = checkpoint.load(place)
    assert loaded.step == 3 and loaded.values == {"learner": {"version": 3}}
    assert torch.equal(loaded.weights["b"], make(3).weights["b"]) and loaded.optimizer["step/a"] == 2.0
    assert torch.equal(loaded.sampler["a"], torch.full((3,), 2.0))
    assert checkpoint.load(checkpoint.save(tmp_path, make(4), keep=2)).sampler == {}


def test_only_the_newest_are_kept_and_a_step_can_be_written_again(tmp_path: Path) -> None:
    for step in (1, 2, 3, 3):
        checkpoint.save(tmp_path, make(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000002", "step-000003"]


def test_an_interrupted_save_is_not_a_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, make(1), keep=2)
    torn = tmp_path / ".tmp-step-000002"
    torn.mkdir()
    (torn / "weights.safetensors").write_bytes(b"half")
    (tmp_path / "step-000009").mkdir()  # no manifest
    place = checkpoint.latest(tmp_path)
    assert place is not None and place.name == "step-000001"
    checkpoint.clean(tmp_path)
    assert not torn.exists()
    assert checkpoint.latest(tmp_path / "nowhere") is None


FILES = ["weights.safetensors", "optimizer.safetensors", "sampler.safetensors", "values.json", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_found(name: str, tmp_path: Path) -> None:
    place = checkpoint.save(tmp_path, make(1), keep=2)
    data = bytearray((place / name).read_bytes())
    data[len(data) // 2] ^= 1
    (place / name).write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(place)


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    place = checkpoint.save(tmp_path, make(1), keep=2)
    (place / "values.json").unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(place)


def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, make(1), keep=2)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="no space") as caught:
        checkpoint.save(tmp_path, make(2), keep=2)
    assert "resumes" in str(caught.value.next_step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000001"]
