"""Gymnasium environments as worlds, and worlds as Gymnasium environments."""

from askesis.environments.adapters.gymnasium.outward import as_gymnasium
from askesis.environments.adapters.gymnasium.world import gymnasium_world

__all__ = ["as_gymnasium", "gymnasium_world"]
