"""The families of reasoning-gym as a world: questions with answers that a program can check."""

from askesis.environments.reasoning.levels import load_levels
from askesis.environments.reasoning.split import split_of

__all__ = ["load_levels", "split_of"]
