from __future__ import annotations

import dataclasses

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from askesis.environments.reasoning.levels import load_levels


def test_there_are_at_least_ten_families() -> None:
    assert len(load_levels()) >= 10


@pytest.mark.parametrize("family", sorted(load_levels()))
def test_options_exist_and_make_items(family: str) -> None:
    options = load_levels()[family]
    known = {field.name for field in dataclasses.fields(DATASETS[family][1])}
    assert set(options) <= known - {"seed", "size"}
    item = reasoning_gym.create_dataset(family, size=1, seed=0, **options)[0]
    assert item["metadata"]["source_dataset"] == family


def test_the_caller_may_change_what_it_gets() -> None:
    load_levels()["chain_sum"]["max_terms"] = 99
    assert load_levels()["chain_sum"]["max_terms"] == 6
