"""The Model Context Protocol, both ways: tools of its servers for our worlds, our worlds as servers."""

from askesis.environments.adapters.mcp.serving import make_server
from askesis.environments.adapters.mcp.world import make, with_mcp_tools

__all__ = ["make", "make_server", "with_mcp_tools"]
