"""A connection to an MCP server, of both generations, against the real package."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from askesis.environments.adapters.mcp.connection import Connection, Server
from askesis.errors import EnvironmentFault

PROGRAM = """
import sys
import anyio
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

async def tools(context, params):
    print("noise of the server", file=sys.stderr)
    return types.ListToolsResult(tools=[types.Tool(name="die", description="", input_schema={"type": "object"})])

async def call(context, params):
    import os
    os._exit(3)

async def main():
    async with stdio_server() as (read, write):
        server = Server("mortal", on_list_tools=tools, on_call_tool=call)
        await server.run(read, write, server.create_initialization_options())

anyio.run(main)
"""


@pytest.mark.parametrize(
    ("mode", "version"), [("auto", "2026-07-28"), ("2026-07-28", "2026-07-28"), ("legacy", "2025-11-25")]
)
def test_both_generations(hostile: Any, mode: str, version: str) -> None:
    async def talk() -> None:
        connection = Connection(Server(mode=mode, timeout_s=1.0), target=hostile)
        assert not connection.is_open
        await connection.open()
        assert (connection.is_open, connection.protocol_version) == (True, version)
        tools = await connection.list_tools()
        assert [tool.name for tool in tools] == ["add", "big", "fail", "hang", "preach"]
        assert tools[0].parameters["properties"] == {"a": {"type": "integer"}}
        assert (await connection.call("add", {"a": 3})).content == '{"a": 3}'
        failed = await connection.call("fail", {})
        assert (failed.content, failed.is_error) == ("it went wrong", True)
        assert len((await connection.call("big", {})).content) < 21_000
        unknown = await connection.call("raise", {})
        assert unknown.is_error and unknown.content.startswith("error: ")
        late = await connection.call("hang", {})
        assert (late.content, late.is_error) == ("error: no answer within 1.0 s", True)
        assert (await connection.call("add", {})).content == "{}"  # and goes on
        await connection.close()
        await connection.close()
        with pytest.raises(EnvironmentFault, match="is not connected"):
            await connection.call("add", {})

    asyncio.run(talk())


def test_a_connection_outlives_the_loop_that_opened_it(hostile: Any) -> None:
    connection = Connection(Server(), target=hostile)
    asyncio.run(connection.open())
    assert len(asyncio.run(connection.list_tools())) == 5
    asyncio.run(connection.close())


def test_a_program_is_started_and_its_death_is_a_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "server.py"
    program.write_text(PROGRAM)

    async def talk() -> None:
        connection = Connection(Server(command=[sys.executable, str(program)], timeout_s=60.0))
        await connection.open()
        assert [tool.name for tool in await connection.list_tools()] == ["die"]
        with pytest.raises(EnvironmentFault, match="the MCP server does not answer"):
            await connection.call("die", {})
        assert not connection.is_open
        await connection.close()

    asyncio.run(talk())
    assert capfd.readouterr().err == ""  # a foreign program does not write to our terminal


def test_what_cannot_be_started_is_a_fault() -> None:
    async def talk() -> None:
        with pytest.raises(EnvironmentFault, match="cannot be reached"):
            await Connection(Server(command=["/no/such/program"])).open()
        with pytest.raises(EnvironmentFault, match="cannot be reached"):
            await Connection(Server(url="http://127.0.0.1:9/mcp")).open()

    asyncio.run(talk())
