"""Reading the options of a world, with errors that name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from askesis.errors import RecipeError, did_you_mean

__all__ = ["Options"]

T = TypeVar("T")


class Options:
    """The table ``environment.options`` of a recipe. What has been taken is no longer there."""

    def __init__(self, world: str, options: Mapping[str, Any]) -> None:
        self._world = world
        self._left = dict(options)
        self._known: list[str] = []

    def take(self, name: str, kind: type[T], default: T) -> T:
        """The option ``name``, or ``default``. RecipeError for a value of another kind; an int may be a float."""
        self._known.append(name)
        value = self._left.pop(name, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return kind(value)  # type: ignore[call-arg]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(name, value, {str: "a text", bool: "true or false"}.get(kind, kind.__name__))
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The option ``name``, a list of texts; empty by default."""
        value = self.take(name, list, [])
        if not all(isinstance(item, str) for item in value):
            raise self.wrong(name, value, "a list of texts")
        return tuple(value)

    def wrong(self, name: str, got: object, expected: str) -> RecipeError:
        """The error for a value that will not do."""
        return RecipeError(
            f"an option of the environment {self._world} is wrong",
            where=f"environment.options.{name}",
            got=got,
            expected=expected,
        )

    def rest(self) -> dict[str, Any]:
        """All that has not been taken, for the foreign package."""
        left, self._left = self._left, {}
        return left

    def finish(self) -> None:
        """RecipeError when anything is left."""
        if self._left:
            name = next(iter(self._left))
            raise RecipeError(
                f"unknown options of the environment {self._world}",
                where="environment.options",
                got=sorted(self._left),
                expected=", ".join(self._known),
                next_step=did_you_mean(name, self._known),
            )
