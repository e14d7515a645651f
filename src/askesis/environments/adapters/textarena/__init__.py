"""TextArena games as worlds."""

from askesis.environments.adapters.textarena.world import make

__all__ = ["make"]
