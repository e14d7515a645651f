"""Programs that we are measured against, each in a virtual environment of its own."""

from benchmarks.peers.setup import PEERS, ROOT, PeerMissing, install, python_of

__all__ = ["PEERS", "ROOT", "PeerMissing", "install", "python_of"]
