"""The four images and four texts of the specification's worked example, and two larger clouds."""

from __future__ import annotations

import numpy as np
import pytest

from askesis.alignment.checks import Array
from askesis.alignment.synthetic import Pairs, make_world


@pytest.fixture
def four_images() -> Array:
    return np.array([[3, 4, 0], [4, 3, 0], [4, 0, 3], [3, 0, 4]]) / 5


@pytest.fixture
def four_texts() -> Array:
    return np.array([[0, 4 / 5, 3 / 5], [0, 3 / 5, 4 / 5], [1 / 3, 2 / 3, 2 / 3], [2 / 3, 1 / 3, 2 / 3]])


@pytest.fixture(scope="session")
def pairs() -> Pairs:
    return make_world(0, size=32, rank=8, classes=20).draw(2000, "pairs")
