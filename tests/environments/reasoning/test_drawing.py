"""Random access to tasks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from askesis.environments.reasoning import drawing
from askesis.environments.reasoning.drawing import BLOCK, Drawer
from askesis.environments.reasoning.split import split_of


@pytest.fixture(autouse=True)
def _generators() -> Iterator[None]:
    """Drawing belongs into a worker process, where it may seed the global generators; here they are put back."""
    python, numpy = random.getstate(), np.random.get_state()
    yield
    random.setstate(python)
    np.random.set_state(numpy)


class Numbers:
    """A data set whose question names its seed and index; every third item cannot be made."""

    made: list[tuple[int, int]]

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index % 3 == 0:
            raise TypeError(f"item {index}")
        return {"question": f"{self.seed} {index}", "answer": str(random.random()), "metadata": {}}


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "make_dataset", lambda family, options, *, seed, size: Numbers(seed))


def question(drawn: tuple[int, int, dict[str, Any]] | None) -> str:
    assert drawn is not None
    return str(drawn[2]["question"])


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_tasks_do_not_depend_on_the_order_of_asking(split: str) -> None:
    forward, backward = Drawer(), Drawer()
    indices = [0, 1, 63, 64, 65, 1000, 10**6]
    one = [forward.draw("f", {}, 5, split, i) for i in indices]
    two = [backward.draw("f", {}, 5, split, i) for i in reversed(indices)][::-1]
    assert one == two
    assert all(split_of(question(drawn)) == split for drawn in one)
    assert len({question(drawn) for drawn in one}) == len(indices)


@pytest.mark.usefixtures("numbers")
def test_items_that_cannot_be_made_are_passed_over() -> None:
    drawn = [Drawer().draw("f", {}, 5, "train", i) for i in range(BLOCK)]
    assert all(d is not None and d[1] % 3 != 0 and d[1] % BLOCK == i for i, d in enumerate(drawn))


@pytest.mark.usefixtures("numbers")
def test_families_that_use_the_global_generator_are_repeatable() -> None:
    one = Drawer().draw("f", {}, 5, "train", 2)
    random.random()
    assert Drawer().draw("f", {}, 5, "train", 2) == one


@pytest.mark.usefixtures("numbers")
def test_seed_split_and_family_name_the_stream() -> None:
    draws = [question(Drawer().draw(family, {}, seed, "train", 0)) for family, seed in (("f", 1), ("f", 2), ("g", 1))]
    assert len(set(draws)) == 3


@pytest.mark.usefixtures("numbers")
def test_many_are_drawn_up_to_the_end_of_the_block() -> None:
    drawer = Drawer()
    many = drawer.draw_many("f", {}, 5, "train", 60, 60.0)
    assert many == [drawer.draw("f", {}, 5, "train", i) for i in (60, 61, 62, 63)]
    assert len(drawer.draw_many("f", {}, 5, "train", 0, -1.0)) == 1


def test_a_split_without_questions_is_empty() -> None:
    only = {"min_n": 5, "max_n": 5}
    drawer = Drawer()
    found = {split: drawer.draw("count_bits", only, 0, split, 0) for split in ("train", "held_out")}
    assert sorted(item is None for item in found.values()) == [False, True]
    empty = next(split for split, item in found.items() if item is None)
    assert drawer.draw_many("count_bits", only, 0, empty, 0, 1.0) == []


def test_a_family_that_can_make_nothing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing(Numbers):
        def __getitem__(self, index: int) -> dict[str, Any]:
            raise KeyError("never")

    monkeypatch.setattr(drawing, "make_dataset", lambda family, options, *, seed, size: Nothing(seed))
    with pytest.raises(KeyError, match="never"):
        Drawer().draw("f", {}, 0, "train", 0)


def test_the_memory_is_bounded() -> None:
    drawer = Drawer()
    for index in range(0, BLOCK * 40, 8):
        drawer.draw("gcd", {}, 0, "train", index)
    assert len(drawer._datasets) <= 16 and len(drawer._entries) <= 512
