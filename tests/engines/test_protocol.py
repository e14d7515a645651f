"""Values of the engine seam."""

from __future__ import annotations

import pytest

from askesis.engines import Sampling


@pytest.mark.parametrize(
    ("sampling", "truncates"),
    [
        (Sampling(), False),
        (Sampling(temperature=0.5), False),
        (Sampling(temperature=0.0), True),
        (Sampling(top_k=3), True),
        (Sampling(top_p=0.9), True),
    ],
)
def test_which_settings_cut_the_distribution(sampling: Sampling, truncates: bool) -> None:
    assert sampling.truncates is truncates


def test_parameters_are_json_ready() -> None:
    assert Sampling(top_k=2).to_dict() == {"temperature": 1.0, "top_p": 1.0, "top_k": 2, "max_tokens": 96}
