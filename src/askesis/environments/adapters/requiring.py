"""Importing what an extra brings, when it is needed."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from askesis.errors import MissingExtra

__all__ = ["require"]


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import ``module``. MissingExtra when its package is not installed; what a broken package raises goes through."""
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise MissingExtra(package, extra, purpose) from error
