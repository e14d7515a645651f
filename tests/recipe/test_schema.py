"""The schema itself: everything documented, everything closed."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from askesis.recipe import Recipe

SECTIONS = {name: field.annotation for name, field in Recipe.model_fields.items()}


@pytest.mark.parametrize("name", list(SECTIONS))
def test_sections_are_frozen_strict_and_closed(name: str) -> None:
    section = SECTIONS[name]
    assert isinstance(section, type) and issubclass(section, BaseModel)
    config = section.model_config
    assert (config.get("extra"), config.get("frozen"), config.get("strict")) == ("forbid", True, True)


def test_the_default_recipe_is_valid_and_a_copy_is_equal() -> None:
    assert Recipe.model_validate(Recipe().model_dump()) == Recipe()
