"""Every section refuses what it does not know, and never changes."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from askesis.recipe.section import Section


class Part(Section):
    size: float = 1.0


def test_a_section_is_closed_strict_and_frozen() -> None:
    for wrong in ({"sise": 1.0}, {"size": "1"}, {"size": float("nan")}):
        with pytest.raises(ValidationError):
            Part.model_validate(wrong)
    with pytest.raises(ValidationError):
        Part().size = 2.0  # type: ignore[misc]
