"""The world ``openenv``: whatever an OpenEnv server plays."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from askesis.environments.adapters.blocking import LoopThread
from askesis.environments.adapters.openenv.acting import describe_schema, reply_schema, takes_tools
from askesis.environments.adapters.openenv.connection import Connection, fetch_schema
from askesis.environments.adapters.openenv.environment import OpenEnvEnvironment
from askesis.environments.adapters.openenv.wire import RESERVED, WireError
from askesis.environments.adapters.options import Options
from askesis.environments.adapters.requiring import require
from askesis.environments.adapters.returns import ReturnEvaluator
from askesis.environments.adapters.seeds import SeedTasks
from askesis.environments.adapters.texts import shown
from askesis.environments.protocol import World
from askesis.errors import EnvironmentFault, RecipeError
from askesis.trace.types import ToolSpec

__all__ = ["make"]

ENVIRONMENT = "openenv"
_OPEN_S = 30.0
_LOOP = LoopThread("askesis-openenv")


def make(*, family: str, level: str, options: Mapping[str, Any], seed: int, instruction: str | None) -> World:
    """A world on a running server; see :func:`askesis.environments.make_world`.

    Args:
        family: any name; it names the tasks.
        level: not used.
        options: ``url`` of the server, which must be given; ``retries`` (2), how often an action that is refused is
            asked for again; ``solved_at``, the return from which a task counts as solved.
        seed: root of the stream of tasks.
        instruction: system message; None says what an action is.
    """
    require("websockets", extra="openenv", purpose="the environment 'openenv'")
    taken = Options(ENVIRONMENT, options)
    url = taken.take("url", str, "")
    retries = taken.take("retries", int, 2)
    solved_at = taken.take("solved_at", float, 0.0) if "solved_at" in options else None
    taken.finish()
    schema = fetch_schema(url)
    tools: tuple[ToolSpec, ...] = ()
    if takes_tools(schema):
        tools, schema = _LOOP.run(_tools(url)), reply_schema(schema)
    if instruction is None:
        instruction = "" if tools else f"Act by writing inside <answer> and </answer> {describe_schema(schema)}."
    return World(
        name=ENVIRONMENT,
        environment=OpenEnvEnvironment(url, schema, tools=tools, instruction=instruction, retries=retries),
        evaluator=ReturnEvaluator(f"openenv {family}", solved_at=solved_at),
        tasks=SeedTasks(environment=ENVIRONMENT, family=family, seed=seed),
    )


async def _tools(url: str) -> tuple[ToolSpec, ...]:
    """The server's tools, by name. RecipeError when it does not tell them, or one of them has a reserved name."""
    connection = Connection(url)
    try:
        async with asyncio.timeout(_OPEN_S):
            await connection.open()
            listed = (await connection.step({"type": "list_tools"})).observation["tools"]
        specs = [
            ToolSpec(
                name=str(tool["name"]),
                description=shown(str(tool.get("description", "")), 2000),
                parameters=dict(tool.get("input_schema") or {"type": "object", "properties": {}}),
            )
            for tool in listed
        ]
    except (WireError, EnvironmentFault, KeyError, TypeError, ValueError, AttributeError, TimeoutError) as error:
        raise RecipeError(
            "the OpenEnv server does not say what its tools are",
            where="environment.options.url",
            got=f"{url}: {type(error).__name__}: {error}",
        ) from error
    finally:
        await connection.close()
    if reserved := sorted(RESERVED & {tool.name for tool in specs}):
        raise RecipeError("tools of the OpenEnv server have reserved names", where=url, got=reserved)
    return tuple(sorted(specs, key=lambda tool: tool.name))
