"""Names."""

from __future__ import annotations

import pytest

from askesis.claims.catalog import CLAIMS, find_study
from askesis.errors import RecipeError


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_is_found_under_its_name_and_has_both_scales(name: str) -> None:
    study = find_study(name)
    assert study.name == name and set(study.scales) == {"smoke", "laptop"}
    assert study.scale("laptop").seeds >= 3 and study.scale("laptop").judged and not study.scale("smoke").judged


def test_a_misspelt_claim_is_answered_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match="vespo"):
        find_study("vesbo")
