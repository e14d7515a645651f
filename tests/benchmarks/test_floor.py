from __future__ import annotations

import pytest
from benchmarks.models import NANO, SMALL, Shape
from benchmarks.workload import Grpo, Turns

from benchmarks import floor

TINY = Shape(name="t", hidden=2, intermediate=3, layers=1, heads=1, kv_heads=1, head_size=2, vocabulary=5)


def test_linear_parameters_by_hand() -> None:
    # Query, key, value, output: 4 matrices of 2 x 2; gate, up, down: 3 of 2 x 3.
    assert TINY.linear == 16 + 18
    assert NANO.linear == 786_432
    assert SMALL.linear == 25_165_824


def test_one_pass_by_hand() -> None:
    # Two runs: 3 tokens from depth 0 attend to 1 + 2 + 3, 2 tokens from depth 3 to 4 + 5.
    linear = 2 * 34 * 5
    attention = 4 * 1 * 1 * 2 * (6 + 9)
    assert floor.forward(TINY, [(0, 3), (3, 2)], 2) == linear + attention + 2 * 2 * 5 * 2


def test_a_step_is_sampling_and_a_training_pass() -> None:
    load = Grpo(prompts=2, group=3, prompt_tokens=3, new_tokens=2)
    once = floor.forward(TINY, [(0, 3), (3, 2), (3, 2), (3, 2)], 6)
    assert floor.sampling(TINY, load) == 2 * once
    assert floor.grpo_step(TINY, load) == 8 * once


def test_an_update_counts_a_shared_observation_once() -> None:
    load = Turns(prompts=1, members=2, turns=2, first=3, observation=4, action=1)
    once = floor.forward(TINY, [(0, 3), (3, 6), (3, 6)], 4)
    assert floor.turns_update(TINY, load) == pytest.approx(3 * once)
