"""OpenEnv, both ways: its servers as worlds, our worlds as servers that its clients can use.

Only the wire format is used (JSON over HTTP and a web socket), not OpenEnv's own package.
"""

from askesis.environments.adapters.openenv.serving import make_app, serve
from askesis.environments.adapters.openenv.world import make

__all__ = ["make", "make_app", "serve"]
