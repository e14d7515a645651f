"""The processor's mode for tiny numbers is given back."""

from __future__ import annotations

import pytest
import torch

from askesis.diffusion.denormals import denormals_as_zero


def tiny_product() -> float:
    return float(torch.tensor(1e-300, dtype=torch.float64) * 1e-10)


@pytest.mark.parametrize("before", [False, True])
def test_the_mode_is_given_back_also_after_an_error(before: bool) -> None:
    supported = torch.set_flush_denormal(before)
    try:
        outside = tiny_product()
        with pytest.raises(KeyError), denormals_as_zero():
            assert tiny_product() == 0.0 or not supported
            raise KeyError
        assert tiny_product() == outside
    finally:
        torch.set_flush_denormal(False)
