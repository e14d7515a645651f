"""PettingZoo environments as worlds: turn by turn, or all agents at once."""

from askesis.environments.adapters.pettingzoo.world import pettingzoo_world

__all__ = ["pettingzoo_world"]
