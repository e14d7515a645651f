"""The world ``mcp``."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra `mcp` is not installed")

from askesis.environments import make_world
from askesis.environments.adapters.mcp import with_mcp_tools
from askesis.environments.adapters.mcp.connection import Connection, Server
from askesis.environments.fakes import make_echo_world
from askesis.errors import RecipeError


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "either command or url"),
        ({"command": ["x"], "url": "http://h"}, "either command or url"),
        ({"command": "python server.py"}, "environment.options.command"),
        ({"url": "h:1"}, "an address such as"),
        ({"url": "http://h", "world": "mcp"}, "another world than mcp"),
        ({"url": "http://h", "shared": "yes"}, "true or false"),
        ({"command": ["/no/such/program"]}, "cannot be reached"),
    ],
)
def test_usual_mistakes_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=complaint):
        make_world("mcp", family="chain_sum", level="nano", options=options)


def test_allowed_tools_must_be_there_and_names_must_differ(hostile: Any) -> None:
    def connect() -> Connection:
        return Connection(Server(), target=hostile)

    with pytest.raises(RecipeError, match="did you mean 'preach'"):
        with_mcp_tools(make_echo_world(), connect, allow=["preech"])
    once = with_mcp_tools(make_echo_world(), connect, allow=["add"])
    with pytest.raises(RecipeError, match="tools of the same name"):
        with_mcp_tools(once, connect, allow=["add"])
    assert with_mcp_tools(once, connect, allow=["big"]).name == "echo"
