"""Worlds and tools of other packages, and our worlds for them. Each needs an extra and imports it only when it is used.

In: ``gymnasium``, ``pettingzoo``, ``textarena``, ``openenv`` and ``mcp`` are worlds that a recipe can name. Out:
:func:`.gymnasium.as_gymnasium`, :func:`.openenv.serving.make_app`, :func:`.mcp.serving.make_server`,
:func:`.trl.environment_factory` and :func:`.trl.rollout_func`.
"""
