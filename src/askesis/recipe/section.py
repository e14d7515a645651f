"""What all sections of a recipe have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Option", "Section"]

Option = bool | int | float | str | list[bool] | list[int] | list[float] | list[str]
"""What the ``options`` of a recipe may hold."""


class Section(BaseModel):
    """Base of all sections: immutable, strict about types, closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
