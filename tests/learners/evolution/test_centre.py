"""What is written into the file comes back bit for bit, whatever the type and wherever a block ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from askesis.errors import CheckpointError, PolicyError
from askesis.learners.evolution import centre as centre_module
from askesis.learners.evolution.centre import Centre

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def bits(policy: Any) -> list[bytes]:
    return [p.detach().view(torch.uint8).numpy().tobytes() for _, p in policy.trainable()]


def awkward(dtype: torch.dtype) -> torch.Tensor:
    """Signed zeros, the smallest and the largest numbers of the type."""
    info = torch.finfo(dtype)
    return torch.tensor([0.0, -0.0, info.tiny, info.smallest_normal / 2, -info.max / 4, 1.0, 0.02], dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_centre_survives_any_weights(dtype: torch.dtype, bare: Any, tmp_path: Path) -> None:
    policy = bare(awkward(dtype), torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).to(dtype))
    before = bits(policy)
    centre = Centre(policy.trainable(), folder=tmp_path)
    centre.show(lambda block: torch.full((len(block.weights),), 0.125), displaced=False)
    assert bits(policy) != before
    centre.restore()
    assert bits(policy) == before
    assert list(tmp_path.iterdir()) == []  # the file has no name


def test_blocks_cover_every_number_once(bare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(centre_module, "BLOCK", 4)
    policy = bare(torch.arange(10.0), torch.arange(10.0, 14.0), torch.arange(14.0, 15.0))
    centre = Centre(policy.trainable())
    blocks = list(centre.blocks())
    assert [(b.name, b.number, len(b.weights)) for b in blocks] == [
        ("p0", 0, 4),
        ("p0", 1, 4),
        ("p0", 2, 2),
        ("p1", 0, 4),
        ("p2", 0, 1),
    ]
    assert torch.equal(torch.cat([centre.read(b) for b in blocks]), torch.arange(15.0))
    centre.write(blocks[1], torch.full((4,), -1.0))
    centre.restore()
    assert policy.flat().tolist() == [0, 1, 2, 3, -1, -1, -1, -1, 8, 9, 10, 11, 12, 13, 14]


def test_the_displaced_weights_have_a_place_of_their_own(bare: Any) -> None:
    policy = bare(torch.zeros(3), torch.ones(2))
    centre = Centre(policy.trainable())
    for block in centre.blocks():
        centre.write(block, torch.full((len(block.weights),), 9.0), displaced=True)
    centre.show(lambda block: torch.ones(len(block.weights)), displaced=True)
    assert policy.flat().tolist() == [10.0] * 5
    centre.restore()
    assert policy.flat().tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_a_checkpoint_of_a_coarse_model_keeps_the_fine_centre(bare: Any) -> None:
    policy = bare(torch.ones(4, dtype=torch.bfloat16))
    centre = Centre(policy.trainable())
    (block,) = centre.blocks()
    fine = torch.full((4,), 1.0001)
    centre.write(block, fine)
    centre.restore()
    assert policy.flat().tolist() == [1.0] * 4  # rounded
    saved = centre.state_dict()
    other = bare(torch.ones(4, dtype=torch.bfloat16))
    again = Centre(other.trainable())
    again.load_state_dict(saved)
    assert torch.equal(again.read(next(again.blocks())), fine)
    with pytest.raises(CheckpointError, match="another model"):
        again.load_state_dict({"p0": torch.ones(5)})


def test_a_float32_model_needs_no_copy_in_the_checkpoint(bare: Any) -> None:
    policy = bare(torch.ones(4))
    centre = Centre(policy.trainable())
    assert centre.state_dict() == {} and not centre.is_finer
    with torch.no_grad():
        policy.parameters[0][1].fill_(3.0)  # what a checkpoint does
    centre.load_state_dict({})
    assert centre.read(next(centre.blocks())).tolist() == [3.0] * 4


def test_what_cannot_be_perturbed_is_refused(bare: Any) -> None:
    with pytest.raises(PolicyError, match="p0"):
        Centre(bare(torch.zeros(3, 4).t()).trainable())
