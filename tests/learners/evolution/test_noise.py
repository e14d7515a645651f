"""The same noise wherever and whenever it is asked for; other noise everywhere else."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from askesis.learners.evolution.noise import BLOCK, seeded_noise

CPU = torch.device("cpu")
PINNED = [-1.3844341, -0.6239360, 1.3468529, 1.5527987]


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.text(max_size=8), st.integers(0, 1000), st.integers(1, 64))
def test_a_seed_and_a_place_give_it_again(seed: int, name: str, block: int, size: int) -> None:
    first, again = (seeded_noise(seed, name, block, size, CPU) for _ in range(2))
    assert first.dtype == torch.float32 and first.shape == (size,)
    assert torch.equal(first, again)


def test_workers_and_later_versions_draw_the_same() -> None:
    """Pinned: a run that is resumed, or spread over processes, must meet the noise that it began with."""
    assert seeded_noise(7, "w", 3, 4, CPU).tolist() == pytest.approx(PINNED, rel=1e-6)


def test_tensors_blocks_and_seeds_have_noise_of_their_own() -> None:
    draws = [
        seeded_noise(seed, name, block, 20_000, CPU)
        for seed, name, block in [(1, "a", 0), (1, "b", 0), (1, "a", 1), (2, "a", 0)]
    ]
    table = torch.corrcoef(torch.stack(draws)).fill_diagonal_(0)
    assert float(table.abs().max()) < 5 / math.sqrt(20_000)


def test_it_is_standard_normal() -> None:
    noise = seeded_noise(3, "w", 0, 200_000, CPU).double()
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    assert float((noise**4).mean()) == pytest.approx(3, abs=0.1)


def test_a_block_bounds_the_memory_of_a_step() -> None:
    assert BLOCK * 4 == 4 << 20


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_draws_its_own_noise_again() -> None:
    device = torch.device("cuda")
    first, again = (seeded_noise(5, "w", 0, 1000, device) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, seeded_noise(5, "w", 1, 1000, device))
