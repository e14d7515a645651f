"""Private global randomness."""

from __future__ import annotations

import random

import numpy as np

from askesis.environments.adapters.dice import Dice


def draw(dice: Dice) -> tuple[float, float]:
    with dice.rolling():
        return random.random(), float(np.random.random())


def test_the_same_seed_draws_the_same() -> None:
    first, second = Dice(3), Dice(3)
    assert [draw(first) for _ in range(3)] == [draw(second) for _ in range(3)]
    assert draw(Dice(4)) != draw(Dice(3))


def test_interleaved_sessions_do_not_influence_each_other() -> None:
    alone = [draw(dice) for dice in [Dice(1)] for _ in range(4)]
    one, two = Dice(1), Dice(2)
    mixed = []
    for _ in range(4):
        mixed.append(draw(one))
        draw(two)
    assert mixed == alone


def test_outside_nothing_has_been_drawn_even_after_an_error() -> None:
    before = random.getstate(), np.random.get_state()[1].tobytes()
    try:
        with Dice(0).rolling():
            random.random()
            raise KeyError
    except KeyError:
        pass
    assert (random.getstate(), np.random.get_state()[1].tobytes()) == before
