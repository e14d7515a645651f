"""The level ``nano`` of each reasoning-gym family, read from ``levels.toml`` beside this file."""

from __future__ import annotations

import tomllib
from importlib.resources import files

__all__ = ["load_levels"]


def load_levels() -> dict[str, dict[str, object]]:
    """Family name -> options for ``reasoning_gym.create_dataset``. A fresh copy at every call."""
    return tomllib.loads(files(__package__).joinpath("levels.toml").read_text(encoding="utf-8"))
